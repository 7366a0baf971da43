// SPDX-License-Identifier: Apache-2.0
//! Walks of x86-64 page tables, of four and five levels, and of the nested ones of AMD and Intel, whose entries have
//! the same shape as far as it matters here.

use std::collections::HashSet;

use anyhow::Result;

use crate::memory::{ENTRIES, Memory, Table};

/// Bits of an address that one level resolves.
const LEVEL_BITS: u32 = 9;

/// An entry that the CPU follows: present, or readable in an EPT.
const PRESENT: u64 = 1;

/// An entry of an upper level that is a page of 1 GiB or 2 MiB.
const LARGE: u64 = 1 << 7;

/// The frame number in an entry: bits 12 to 51.
const FRAME: u64 = 0x000f_ffff_ffff_f000;

/// The first entry of a root that belongs to the kernel.
pub const KERNEL: usize = ENTRIES / 2;

/// A mapping, of 4 KiB to 1 GiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Its first address, sign-extended.
    pub address: u64,
    /// The first frame it maps.
    pub pfn: u64,
    /// How many frames: 1, 512 or 262144.
    pub pages: u64,
}

/// What a walk to one address ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// The last entry that was looked at, present or not.
    pub entry: u64,
    /// Its level: 1 for an entry of 4 KiB.
    pub level: u8,
}

impl End {
    /// Whether the address is mapped.
    pub fn is_mapped(self) -> bool {
        is_present(self.entry)
    }
}

/// Whether the CPU follows an entry.
pub fn is_present(entry: u64) -> bool {
    entry & PRESENT != 0
}

/// The frame that an entry names.
pub fn frame(entry: u64) -> u64 {
    (entry & FRAME) >> 12
}

/// How many frames an entry of a level maps.
fn pages(level: u8) -> u64 {
    1 << (LEVEL_BITS * u32::from(level - 1))
}

/// Whether an entry of a level maps memory instead of naming a table.
fn is_leaf(entry: u64, level: u8) -> bool {
    level == 1 || (level <= 3 && entry & LARGE != 0)
}

/// A walker that goes into each table once, however many roots and entries lead there: the kernel's half is the same
/// in all of them.
pub struct Walker<'a, M> {
    memory: &'a M,
    levels: u8,
    been: HashSet<(u64, u8)>,
    invalid: u64,
}

impl<'a, M: Memory> Walker<'a, M> {
    /// A walker for tables of `levels` levels.
    pub fn new(memory: &'a M, levels: u8) -> Self {
        Walker { memory, levels, been: HashSet::new(), invalid: 0 }
    }

    /// Entries met that no CPU would follow: reserved bits are set, or they name a table where there is no memory.
    pub fn invalid(&self) -> u64 {
        self.invalid
    }

    /// Shows all mappings below the entries `indices` of a root.
    ///
    /// # Errors
    /// The memory cannot be read.
    pub fn walk(&mut self, root: u64, indices: std::ops::Range<usize>, visit: &mut dyn FnMut(Leaf)) -> Result<()> {
        match self.memory.table(root)? {
            Some(table) => self.entries(&table, indices, self.levels, 0, visit),
            None => Ok(()),
        }
    }

    fn entries(
        &mut self,
        table: &Table,
        indices: std::ops::Range<usize>,
        level: u8,
        base: u64,
        visit: &mut dyn FnMut(Leaf),
    ) -> Result<()> {
        for index in indices.filter(|&index| is_present(table[index])) {
            let (entry, address) = (table[index], base | (index as u64 * pages(level)) << 12);
            if is_leaf(entry, level) {
                // The lowest bit of a large frame is a flag (PAT).
                let low = frame(entry) & (pages(level) - 1);
                self.invalid += u64::from(low > 1);
                if low <= 1 {
                    let pfn = frame(entry) - low;
                    visit(Leaf { address: self.canonical(address), pfn, pages: pages(level) });
                }
            } else if self.been.insert((frame(entry), level)) {
                match self.memory.table(frame(entry))? {
                    Some(below) => self.entries(&below, 0..ENTRIES, level - 1, address, visit)?,
                    None => self.invalid += 1,
                }
            }
        }
        Ok(())
    }

    fn canonical(&self, address: u64) -> u64 {
        let unused = 64 - 12 - LEVEL_BITS * u32::from(self.levels);
        ((address << unused).cast_signed() >> unused).cast_unsigned()
    }
}

/// Follows one address from a root as the CPU does.
///
/// # Errors
/// The memory cannot be read.
pub fn lookup(memory: &impl Memory, root: u64, levels: u8, address: u64) -> Result<End> {
    let (mut pfn, mut level) = (root, levels);
    loop {
        let index = (address >> 12) / pages(level) % ENTRIES as u64;
        let entry = memory.table(pfn)?.map_or(0, |table| table[index as usize]);
        if !is_present(entry) || is_leaf(entry, level) {
            return Ok(End { entry, level });
        }
        (pfn, level) = (frame(entry), level - 1);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::memory::tests::Written;

    /// A table at each of the frames 1 to `levels`, entry 273 in the root and 1, 2, 3 … below.
    fn chain(levels: u8) -> Written {
        let mut memory = Written::zeroed(16);
        memory.set(1, 273, 2 << 12 | 0x63);
        (2..=u64::from(levels)).for_each(|table| memory.set(table, table as usize - 1, (table + 1) << 12 | 0x63));
        memory
    }

    fn leaves(memory: &Written, levels: u8, indices: std::ops::Range<usize>) -> Vec<Leaf> {
        let mut leaves = Vec::new();
        Walker::new(memory, levels).walk(1, indices, &mut |leaf| leaves.push(leaf)).unwrap();
        leaves
    }

    #[test]
    fn walk_four_and_five_levels_reach_a_page_at_its_address() {
        let four = Leaf { address: 0xffff_8880_4040_3000, pfn: 5, pages: 1 };
        assert_eq!(leaves(&chain(4), 4, KERNEL..ENTRIES), [four]);
        let five = Leaf { address: 0xff11_0080_8060_4000, pfn: 6, pages: 1 };
        assert_eq!(leaves(&chain(5), 5, KERNEL..ENTRIES), [five]);
        assert!(leaves(&chain(4), 4, 0..KERNEL).is_empty(), "the user's half");
    }

    #[test]
    fn walk_large_entries_are_leaves_and_not_present_ones_nothing() {
        let mut memory = chain(4);
        memory.set(3, 2, 0x20_0000 | LARGE | 0x1063);
        assert_eq!(
            leaves(&memory, 4, KERNEL..ENTRIES)[0],
            Leaf { address: 0xffff_8880_4040_0000, pfn: 512, pages: 512 }
        );
        memory.set(2, 1, 0x4000_0000 | LARGE | 0x63);
        assert_eq!(leaves(&memory, 4, KERNEL..ENTRIES)[0].pages, 512 * 512);
        memory.set(2, 1, 0x4000_0000 | LARGE | 0x62);
        assert!(leaves(&memory, 4, KERNEL..ENTRIES).is_empty());
    }

    #[test]
    fn walk_tables_outside_memory_and_loops_end() {
        let mut memory = chain(4);
        memory.set(2, 1, 0xfff_f000 | 0x63);
        assert!(leaves(&memory, 4, KERNEL..ENTRIES).is_empty());
        memory.set(2, 1, 1 << 12 | 0x63);
        leaves(&memory, 4, 0..ENTRIES);
    }

    #[test]
    fn lookup_ends_where_the_walk_does() {
        let memory = chain(4);
        let end = lookup(&memory, 1, 4, 0xffff_8880_4040_3000).unwrap();
        assert_eq!((end.level, end.is_mapped(), frame(end.entry)), (1, true, 5));
        let hole = lookup(&memory, 1, 4, 0xffff_8880_4040_4000).unwrap();
        assert_eq!((hole.level, hole.is_mapped(), hole.entry), (1, false, 0));
        assert_eq!(lookup(&memory, 1, 4, 0x1000).unwrap().level, 4);
    }
}
