// SPDX-License-Identifier: Apache-2.0
//! Physical memory as a picture: a letter for each 2 MiB.

use std::collections::BTreeSet;
use std::ops::Range;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::memory::Memory;
use crate::paging::Leaf;

/// Frames in a block.
pub const BLOCK: u64 = 512;

/// Frames below 4 GiB where PCs have their firmware, far from all other memory.
const FIRMWARE: Range<u64> = 0xf_fc00..0x10_0000;

/// How the direct map has a block, or why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Block {
    /// There is no memory.
    Nothing,
    /// By an entry of 1 GiB.
    Giant,
    /// By an entry of 2 MiB.
    Large,
    /// By entries of 4 KiB, all present.
    Small,
    /// By entries of 4 KiB, some missing.
    Pierced,
    /// Not at all, and no frame is the guest's: a reserve, or firmware's.
    Absent,
    /// Not at all, by one missing entry, and the guest has frames of it.
    Guest,
    /// Not at all, by missing entries of 4 KiB, and the guest has frames of it.
    Shredded,
    /// The direct map has frames of the guest.
    Exposed,
}

/// Draws the memory of a host from frame 0 on: the direct map's `leaves`, the guest's frames, and the blocks for which
/// the direct map has a table of 4 KiB where a guest frame is missing.
///
/// # Errors
/// The memory cannot be read.
pub fn draw(
    leaves: &[Leaf],
    guest: &BTreeSet<u64>,
    shredded: &BTreeSet<u64>,
    memory: &impl Memory,
) -> Result<Vec<Block>> {
    let mut there = BTreeSet::new();
    memory.for_each_page(&mut |pfn, _| {
        if !FIRMWARE.contains(&pfn) {
            there.insert(pfn / BLOCK);
        }
    })?;
    let blocks = there.last().map_or(0, |last| last + 1) as usize;
    let mut small = vec![0; blocks];
    let mut map: Vec<Block> =
        (0..blocks as u64).map(|b| if there.contains(&b) { Block::Absent } else { Block::Nothing }).collect();
    for leaf in leaves {
        let first = (leaf.pfn / BLOCK) as usize;
        let kind = if leaf.pages > BLOCK { Block::Giant } else { Block::Large };
        if leaf.pages == 1 {
            small.get_mut(first).into_iter().for_each(|count| *count += 1);
        } else {
            let last = first + (leaf.pages / BLOCK) as usize;
            map.iter_mut().take(last).skip(first).filter(|b| **b != Block::Nothing).for_each(|block| *block = kind);
        }
    }
    for (block, count) in map.iter_mut().zip(small).filter(|(_, count)| *count > 0) {
        *block = if count >= BLOCK { Block::Small } else { Block::Pierced };
    }
    for block in guest.iter().map(|pfn| (pfn / BLOCK) as usize).filter(|block| *block < blocks) {
        map[block] = match map[block] {
            Block::Absent | Block::Shredded if shredded.contains(&(block as u64)) => Block::Shredded,
            Block::Absent | Block::Guest => Block::Guest,
            Block::Pierced => Block::Pierced,
            _ => Block::Exposed,
        };
    }
    Ok(map)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::memory::tests::Written;

    fn leaf(pfn: u64, pages: u64) -> Leaf {
        Leaf { address: pfn << 12, pfn, pages }
    }

    #[test]
    fn draw_tells_sizes_holes_and_guests() {
        let memory = Written::zeroed(6 * BLOCK);
        let mut leaves = vec![leaf(0, 512), leaf(4 * BLOCK, 512)];
        leaves.extend((512..1024).map(|pfn| leaf(pfn, 1)));
        leaves.extend((1024..1500).map(|pfn| leaf(pfn, 1)));
        let (guest, none) = (BTreeSet::from([3 * BLOCK, 4 * BLOCK + 1]), BTreeSet::new());
        use Block::{Absent, Exposed, Guest, Large, Pierced, Shredded, Small};
        let map = draw(&leaves, &guest, &none, &memory).unwrap();
        assert_eq!(map, [Large, Small, Pierced, Guest, Exposed, Absent]);
        assert_eq!(draw(&leaves, &guest, &BTreeSet::from([3]), &memory).unwrap()[3], Shredded);
        assert_eq!(draw(&[leaf(0, 512 * 512)], &none, &none, &memory).unwrap(), [Block::Giant; 6]);
    }
}
