// SPDX-License-Identifier: Apache-2.0
//! What is known of each stride, in ordinary memory.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use super::class::SIZES;
use super::region::{PAGE, STRIDE, STRIDES};

/// Bytes of a stride that holds slots: all but the guard.
pub(super) const SLAB: usize = STRIDE - PAGE;

const NONE: u8 = u8::MAX;
const LARGE: u8 = u8::MAX - 1;

/// Pages of slots of one size, or the first stride of a large allocation.
///
/// A state is the size of a live allocation, and 0 of a free slot.
#[derive(Debug)]
pub(super) struct Slab {
    class: AtomicU8,
    large: AtomicU32,
    /// Made for the first class that the stride has, which it keeps.
    slots: OnceLock<Box<[AtomicU32]>>,
}

/// Where an allocation's state is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Small { class: u8, slot: usize, slot_size: usize },
    Large,
}

impl Slab {
    pub(super) fn make_small(&self, class: u8) {
        self.slots
            .get_or_init(|| (0..SLAB / usize::from(SIZES[usize::from(class)])).map(|_| AtomicU32::new(0)).collect());
        self.class.store(class, Ordering::Release);
    }

    pub(super) fn make_large(&self) {
        self.class.store(LARGE, Ordering::Release);
    }

    pub(super) fn make_none(&self) {
        self.class.store(NONE, Ordering::Release);
    }

    /// The class of a stride of slots.
    pub(super) fn class(&self) -> Option<u8> {
        Some(self.class.load(Ordering::Acquire)).filter(|class| usize::from(*class) < SIZES.len())
    }

    /// What begins at `offset`, if that is where something can begin.
    #[inline]
    pub(super) fn kind_at(&self, offset: usize) -> Option<Kind> {
        match self.class.load(Ordering::Acquire) {
            NONE => None,
            LARGE => (offset == 0).then_some(Kind::Large),
            class => small_at(class, offset),
        }
    }

    #[inline]
    pub(super) fn state(&self, kind: Kind) -> &AtomicU32 {
        match (kind, self.slots.get()) {
            (Kind::Small { slot, .. }, Some(slots)) => &slots[slot],
            _ => &self.large,
        }
    }

    /// Sizes of all that lives here, each with its offset.
    pub(super) fn live(&self) -> Vec<(usize, usize)> {
        let Some(class) = self.class() else {
            let size = self.large.load(Ordering::Relaxed) as usize;
            return if size > 0 { vec![(0, size)] } else { Vec::new() };
        };
        let slots = self.slots.get().map_or(&[][..], |slots| slots);
        let sizes = slots.iter().map(|state| state.load(Ordering::Relaxed) as usize).enumerate();
        let offset = |slot| slot * usize::from(SIZES[usize::from(class)]);
        sizes.filter(|(_, size)| *size > 0).map(|(slot, size)| (offset(slot), size)).collect()
    }
}

#[inline]
fn small_at(class: u8, offset: usize) -> Option<Kind> {
    let slot_size = usize::from(SIZES[usize::from(class)]);
    // Exact for every offset in a stride: 2^16 times the rounding error is less than 2^32.
    let slot = ((offset as u64 * u64::from(RECIPROCALS[usize::from(class)])) >> 32) as usize;
    (slot * slot_size == offset && offset + slot_size <= SLAB).then_some(Kind::Small { class, slot, slot_size })
}

/// 2^32 divided by each size, rounded up.
const RECIPROCALS: [u32; SIZES.len()] = {
    let mut all = [0; SIZES.len()];
    let mut class = 0;
    while class < all.len() {
        all[class] = (1u64 << 32).div_ceil(SIZES[class] as u64) as u32;
        class += 1;
    }
    all
};

/// One for each stride.
#[derive(Debug)]
pub(super) struct Table(Box<[Slab]>);

impl Table {
    pub(super) fn new() -> Self {
        let slab = || Slab { class: AtomicU8::new(NONE), large: AtomicU32::new(0), slots: OnceLock::new() };
        Self((0..STRIDES).map(|_| slab()).collect())
    }

    #[inline]
    pub(super) fn get(&self, stride: usize) -> &Slab {
        &self.0[stride]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_at_agrees_with_division() {
        for (class, size) in SIZES.iter().enumerate() {
            let size = usize::from(*size);
            for offset in 0..SLAB {
                let expected = offset.is_multiple_of(size) && offset + size <= SLAB;
                let found = small_at(class as u8, offset);
                assert_eq!(found.is_some(), expected, "{offset} of {size}");
                if let Some(Kind::Small { slot, .. }) = found {
                    assert_eq!(slot, offset / size);
                }
            }
        }
    }
}
