// SPDX-License-Identifier: Apache-2.0
//! Slots and strides that no thread holds, under the heap's one lock.
#![allow(unsafe_code)] // Addresses of slots in a stride.

use std::ptr::NonNull;
use std::sync::{MutexGuard, PoisonError};

use super::class::SIZES;
use super::region::{PAGE, STRIDE, STRIDES};
use super::slab::SLAB;
use super::{AllocError, Heap};

/// A free slot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot(pub(super) NonNull<u8>);

// SAFETY: a free slot belongs to whoever holds this.
unsafe impl Send for Slot {}

/// What has happened since the start, without what other threads have yet to add.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Allocations made.
    pub allocations: u64,
    /// Allocations freed.
    pub frees: u64,
}

impl Totals {
    pub(super) fn add(&mut self, allocations: &mut u64, frees: &mut u64) {
        self.allocations += std::mem::take(allocations);
        self.frees += std::mem::take(frees);
    }
}

#[derive(Debug, Default)]
pub(super) struct Pool {
    free: [Vec<Slot>; SIZES.len()],
    /// The stride that new slots of a class are cut from, and where.
    fresh: [Option<(usize, usize)>; SIZES.len()],
    /// What is mapped: stride and bytes, in order of address.
    mapped: Vec<(usize, usize)>,
    /// Strides that were used once: first and count.
    holes: Vec<(usize, usize)>,
    next: usize,
    pub(super) totals: Totals,
}

impl Heap {
    /// For a thread that is inside: a handler that interrupts it would otherwise wait for itself.
    pub(super) fn lock_inside(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pool {
    /// Up to `count` slots of a class, at least one.
    pub(super) fn take(&mut self, heap: &Heap, class: u8, count: usize, out: &mut Vec<Slot>) -> Result<(), AllocError> {
        let at = usize::from(class);
        let free = self.free[at].len();
        out.extend(self.free[at].drain(free.saturating_sub(count)..));
        if !out.is_empty() {
            return Ok(());
        }
        self.cut(heap, class, count, out)
    }

    fn cut(&mut self, heap: &Heap, class: u8, count: usize, out: &mut Vec<Slot>) -> Result<(), AllocError> {
        let (at, size) = (usize::from(class), usize::from(SIZES[usize::from(class)]));
        let (stride, mut offset) = match self.fresh[at] {
            Some((stride, offset)) if offset + size <= SLAB => (stride, offset),
            _ => (self.slab(heap, class)?, 0),
        };
        while out.len() < count && offset + size <= SLAB {
            // SAFETY: the slot lies in the stride's pages.
            out.push(Slot(unsafe { heap.region.start(stride).add(offset) }));
            offset += size;
        }
        self.fresh[at] = Some((stride, offset));
        Ok(())
    }

    fn slab(&mut self, heap: &Heap, class: u8) -> Result<usize, AllocError> {
        let stride = self.map(heap, SLAB)?;
        heap.table.get(stride).make_small(class);
        Ok(stride)
    }

    pub(super) fn give(&mut self, class: u8, slots: impl Iterator<Item = Slot>) {
        self.free[usize::from(class)].extend(slots);
    }

    /// Pages for one allocation.
    pub(super) fn large(&mut self, heap: &Heap, need: usize) -> Result<NonNull<u8>, AllocError> {
        let stride = self.map(heap, need.next_multiple_of(PAGE))?;
        heap.table.get(stride).make_large();
        self.totals.allocations += 1;
        Ok(heap.region.start(stride))
    }

    pub(super) fn drop_large(&mut self, heap: &Heap, ptr: NonNull<u8>) {
        let Some(stride) = heap.region.stride_of(ptr.as_ptr().addr()) else { return };
        let Ok(at) = self.mapped.binary_search_by_key(&stride, |(stride, _)| *stride) else { return };
        let (_, len) = self.mapped[at];
        // What cannot be given back stays mapped, zeroed and unused.
        if heap.region.unmap(stride, len).is_ok() {
            self.mapped.remove(at);
            heap.table.get(stride).make_none();
            self.holes.push((stride, strides(len)));
        }
        self.totals.frees += 1;
    }

    fn map(&mut self, heap: &Heap, len: usize) -> Result<usize, AllocError> {
        let count = strides(len);
        let hole = self.holes.iter().position(|(_, holes)| *holes >= count);
        let stride = hole.map_or(self.next, |hole| self.holes[hole].0);
        if stride + count > STRIDES {
            return Err(AllocError::Full);
        }
        heap.region.map(stride, len).map_err(|source| AllocError::Map { len, source })?;
        match hole {
            Some(hole) => self.shrink(hole, count),
            None => self.next += count,
        }
        let at = self.mapped.partition_point(|(other, _)| *other < stride);
        self.mapped.insert(at, (stride, len));
        Ok(stride)
    }

    fn shrink(&mut self, hole: usize, count: usize) {
        let (first, holes) = self.holes.swap_remove(hole);
        if holes > count {
            self.holes.push((first + count, holes - count));
        }
    }

    /// What is mapped: stride, bytes, and how many of these were ever used.
    pub(super) fn mapped(&self) -> impl Iterator<Item = (usize, usize, usize)> {
        self.mapped.iter().map(|(stride, len)| {
            let fresh = self.fresh.iter().flatten().find(|(fresh, _)| fresh == stride);
            (*stride, *len, fresh.map_or(*len, |(_, used)| *used))
        })
    }

    /// In a child that sees nothing: all begins again behind what the parent has.
    pub(super) fn forget(&mut self) {
        self.free.iter_mut().for_each(Vec::clear);
        self.fresh = Default::default();
        self.mapped.clear();
    }
}

/// Strides that `len` bytes and the guard before them take.
fn strides(len: usize) -> usize {
    (len + PAGE).div_ceil(STRIDE)
}
