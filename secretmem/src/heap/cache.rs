// SPDX-License-Identifier: Apache-2.0
//! A few free slots of each class for each thread, so that most calls take no lock.

use std::cell::RefCell;
use std::ptr::NonNull;

use super::class::SIZES;
use super::pool::{Pool, Slot};
use super::{AllocError, HEAP, Heap};

/// Most slots of one class that a thread keeps.
const MOST: usize = 32;

struct Cache {
    slots: [Vec<Slot>; SIZES.len()],
    allocations: u64,
    frees: u64,
}

thread_local! {
    static CACHE: RefCell<Cache> = const { RefCell::new(Cache::new()) };
}

impl Cache {
    const fn new() -> Self {
        Self { slots: [const { Vec::new() }; SIZES.len()], allocations: 0, frees: 0 }
    }
}

/// Slots of one class that a thread keeps: 64 KiB of them at most.
const fn most(class: u8) -> usize {
    let fit = (64 << 10) / SIZES[class as usize] as usize;
    if fit > MOST { MOST } else { fit }
}

/// A slot of a class.
#[inline]
pub(super) fn pop(heap: &Heap, class: u8) -> Result<NonNull<u8>, AllocError> {
    let cached = CACHE.try_with(|cache| {
        let mut cache = cache.try_borrow_mut().map_err(|_| AllocError::Reentered)?;
        cache.allocations += 1;
        match cache.slots[usize::from(class)].pop() {
            Some(slot) => Ok(slot.0),
            None => refill(&mut cache, heap, class),
        }
    });
    cached.unwrap_or_else(|_| one(heap, class))
}

#[cold]
fn refill(cache: &mut Cache, heap: &Heap, class: u8) -> Result<NonNull<u8>, AllocError> {
    let slots = &mut cache.slots[usize::from(class)];
    slots.reserve_exact(MOST);
    let mut pool = heap.lock_inside();
    pool.take(heap, class, most(class).div_ceil(2), slots)?;
    pool.totals.add(&mut cache.allocations, &mut cache.frees);
    slots.pop().map(|slot| slot.0).ok_or(AllocError::Full)
}

/// For a thread whose cache is gone, as its other destructors still run.
#[cold]
fn one(heap: &Heap, class: u8) -> Result<NonNull<u8>, AllocError> {
    let mut slots = Vec::with_capacity(1);
    let mut pool = heap.lock_inside();
    pool.totals.allocations += 1;
    pool.take(heap, class, 1, &mut slots)?;
    slots.pop().map(|slot| slot.0).ok_or(AllocError::Full)
}

/// Takes a zeroed slot back. None inside of a signal handler that interrupts the allocator.
#[inline]
pub(super) fn push(heap: &Heap, class: u8, ptr: NonNull<u8>) -> Option<()> {
    let pushed = CACHE.try_with(|cache| {
        let mut cache = cache.try_borrow_mut().ok()?;
        cache.frees += 1;
        let slots = &mut cache.slots[usize::from(class)];
        if slots.len() < most(class) && slots.capacity() > slots.len() {
            slots.push(Slot(ptr));
        } else {
            flush(&mut cache, heap, class, ptr);
        }
        Some(())
    });
    pushed.unwrap_or_else(|_| {
        let mut pool = heap.lock_inside();
        pool.totals.frees += 1;
        pool.give(class, [Slot(ptr)].into_iter());
        Some(())
    })
}

#[cold]
fn flush(cache: &mut Cache, heap: &Heap, class: u8, ptr: NonNull<u8>) {
    let slots = &mut cache.slots[usize::from(class)];
    slots.reserve_exact(MOST.saturating_sub(slots.len()));
    let half = slots.len() / 2;
    let mut pool = heap.lock_inside();
    pool.give(class, slots.drain(half..));
    pool.totals.add(&mut cache.allocations, &mut cache.frees);
    slots.push(Slot(ptr));
}

/// Calls `body` with the pool. None if this thread is inside the allocator already.
pub(super) fn inside<R>(heap: &Heap, body: impl FnOnce(&mut Pool) -> R) -> Option<R> {
    let mut body = Some(body);
    let mut call = || body.take().map(|body| body(&mut heap.lock_inside()));
    match CACHE.try_with(|cache| cache.try_borrow_mut().ok().and_then(|_inside| call())) {
        Ok(result) => result,
        Err(_) => call(),
    }
}

/// Whether this thread is inside the allocator, which a signal has interrupted.
pub(super) fn is_inside() -> bool {
    CACHE.try_with(|cache| cache.try_borrow_mut().is_err()).unwrap_or(false)
}

/// In a child that sees nothing: this thread has no slots.
pub(super) fn forget() {
    let _ = CACHE.try_with(|cache| {
        if let Ok(mut cache) = cache.try_borrow_mut() {
            cache.slots.iter_mut().for_each(Vec::clear);
        }
    });
}

/// What this thread has done since it last took the lock.
pub(super) fn settle(heap: &Heap) {
    let _ = CACHE.try_with(|cache| {
        if let Ok(mut cache) = cache.try_borrow_mut() {
            let cache = &mut *cache;
            heap.lock_inside().totals.add(&mut cache.allocations, &mut cache.frees);
        }
    });
}

impl Drop for Cache {
    fn drop(&mut self) {
        let Some(heap) = HEAP.get() else { return };
        let mut pool = heap.lock_inside();
        for (class, slots) in self.slots.iter_mut().enumerate() {
            pool.give(class as u8, slots.drain(..));
        }
        pool.totals.add(&mut self.allocations, &mut self.frees);
    }
}
