// SPDX-License-Identifier: Apache-2.0
//! The sizes of slots.

use super::region::PAGE;

/// Bytes behind each allocation that an overflow is found by.
pub(super) const CANARY: usize = 8;

/// Sizes of slots in bytes: multiples of 16, four to a doubling; each power of two is there for alignments.
pub(super) const SIZES: [u16; 28] = [
    16, 32, 48, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 640, 768, 896, 1024, 1280, 1536, 1792,
    2048, 2560, 3072, 4096, 5120,
];

/// Largest alignment in bytes.
pub(super) const MAX_ALIGN: usize = PAGE;

const LARGEST: usize = SIZES[SIZES.len() - 1] as usize;

/// Class of each size up to the largest, in steps of 16 bytes.
const TABLE: [u8; LARGEST / 16 + 1] = table();

const fn table() -> [u8; LARGEST / 16 + 1] {
    let mut table = [0; LARGEST / 16 + 1];
    let (mut step, mut class) = (0, 0);
    while step < table.len() {
        while (SIZES[class] as usize) < step * 16 {
            class += 1;
        }
        table[step] = class as u8;
        step += 1;
    }
    table
}

/// The class for `size` bytes and a canary at a multiple of `align`; none if that takes pages of its own.
pub(super) fn of(size: usize, align: usize) -> Option<u8> {
    let need = size.checked_add(CANARY)?;
    if align <= 16 {
        return TABLE.get(need.div_ceil(16)).copied();
    }
    TABLE.get(need.max(align).checked_next_power_of_two()?.div_ceil(16)).copied()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn of_each_size_fits_with_its_canary_and_alignment() {
        for size in 1..LARGEST {
            for align in [1, 16, 32, 256, 4096] {
                let Some(class) = of(size, align) else { continue };
                let slot = usize::from(SIZES[usize::from(class)]);
                assert!(slot >= size + CANARY, "{size} in {slot}");
                assert_eq!(slot % align.max(16), 0, "{size} at {align} in {slot}");
            }
        }
        assert_eq!(of(LARGEST - 7, 16), None);
        assert_eq!(of(usize::MAX, 16), None);
    }

    #[test]
    fn of_32_bytes_costs_at_most_32_more() {
        let slot = usize::from(SIZES[usize::from(of(32, 16).unwrap())]);
        assert!(slot + size_of::<u32>() <= 64, "{slot}");
    }
}
