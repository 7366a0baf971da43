// SPDX-License-Identifier: Apache-2.0
//! Finds a guest in its host's memory: its canaries by their contents, and the rest of its RAM by the nested page
//! tables that lead to them.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use secretvmm_canary::{PAGE_WORDS, Seed};

use crate::memory::{ENTRIES, Memory, Table, table_of};
use crate::paging::{Leaf, Walker, frame, is_present};

/// Guest-physical pages that are KVM's and not guest RAM: the APIC's (arch/x86/include/asm/apicdef.h).
const APIC: u64 = 0xfee0_0000;

/// In the frame number of an entry that is there to fault: KVM's mark for device registers on CPUs whose second level
/// has the format of the first (arch/x86/kvm/mmu/spte.c, `kvm_mmu_reset_all_pte_masks`).
const MMIO: u64 = 1 << (51 - 12);

/// Canaries of one seed in a memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Canaries {
    /// Frames that hold one whole, by its index.
    pub whole: BTreeMap<u64, Vec<u64>>,
    /// Frames that hold a part of one.
    pub parts: Vec<u64>,
}

/// A guest's second-level page tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stage2 {
    /// Frames of their roots: one for each address space of KVM's.
    pub roots: Vec<u64>,
    /// Frames of guest RAM they map.
    pub frames: BTreeSet<u64>,
    /// How many of these by entries of 2 MiB or more.
    pub large: u64,
}

impl Canaries {
    /// Looks for them in every frame.
    ///
    /// # Errors
    /// The memory cannot be read.
    pub fn find(memory: &impl Memory, seed: Seed) -> Result<Self> {
        let mut canaries = Canaries::default();
        memory.for_each_page(&mut |pfn, page| match seed.recognise(page) {
            Some(found) if found.words == PAGE_WORDS => canaries.whole.entry(found.index).or_default().push(pfn),
            Some(_) => canaries.parts.push(pfn),
            None => {}
        })?;
        Ok(canaries)
    }

    /// All frames that hold one or a part of one.
    pub fn frames(&self) -> BTreeSet<u64> {
        self.whole.values().flatten().chain(&self.parts).copied().collect()
    }

    /// How many of these frames a guest's second level does not map. Those that it maps are guest RAM, also where the
    /// guest's own kernel has moved a page and left the old one as it was.
    pub fn outside(&self, stage2: &Stage2) -> u64 {
        self.frames().difference(&stage2.frames).count() as u64
    }
}

impl Stage2 {
    /// Looks for tables of 4 or `levels` levels that lead to most of `wanted` and to nothing impossible: taken for a
    /// root, a table of a lower level would.
    ///
    /// # Errors
    /// The memory cannot be read.
    pub fn find(memory: &impl Memory, levels: u8, wanted: &BTreeSet<u64>) -> Result<Self> {
        let mut candidates = Vec::new();
        memory.for_each_page(&mut |pfn, page| {
            let first = page.first_chunk::<8>().map_or(0, |entry| u64::from_le_bytes(*entry));
            if is_present(first) && frame(first) != pfn && has_no_other(&table_of(page)) {
                candidates.push(pfn);
            }
        })?;
        let mut stage2 = Stage2::default();
        for (root, levels) in candidates.into_iter().flat_map(|root| (4..=levels).map(move |levels| (root, levels))) {
            let mut leaves = Vec::new();
            let mut walker = Walker::new(memory, levels);
            walker.walk(root, 0..ENTRIES, &mut |leaf| leaves.push(leaf))?;
            leaves.retain(|leaf| leaf.pfn & MMIO == 0);
            let met: usize = leaves.iter().map(|leaf| wanted.range(leaf.pfn..leaf.pfn + leaf.pages).count()).sum();
            if walker.invalid() == 0 && met > 0 && met * 2 >= wanted.len() && may_be_guests(memory, &leaves) {
                stage2.add(root, &leaves);
            }
        }
        Ok(stage2)
    }

    fn add(&mut self, root: u64, leaves: &[Leaf]) {
        self.roots.push(root);
        for leaf in leaves.iter().filter(|leaf| leaf.address != APIC) {
            let before = self.frames.len();
            self.frames.extend(leaf.pfn..leaf.pfn + leaf.pages);
            self.large += if leaf.pages > 1 { (self.frames.len() - before) as u64 } else { 0 };
        }
    }
}

/// Whether mappings are all of memory, and not those of an address to itself, as tables from the host's boot are.
fn may_be_guests(memory: &impl Memory, leaves: &[Leaf]) -> bool {
    leaves.iter().all(|leaf| memory.has(leaf.pfn) && memory.has(leaf.pfn + leaf.pages - 1))
        && leaves.iter().any(|leaf| leaf.address >> 12 != leaf.pfn)
}

/// Whether a table has the first entry alone, as the root for a guest of up to 512 GiB. KVM's mark for entries that
/// are not there need not be zero (arch/x86/kvm/mmu/spte.h, `SHADOW_NONPRESENT_VALUE`), but is one for all.
fn has_no_other(table: &Table) -> bool {
    !is_present(table[1]) && table[2..].iter().all(|entry| *entry == table[1])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::memory::tests::Written;

    const SEED: Seed = Seed::new(7);

    /// Canaries 0 and 1 in frames 5 and 6, which the tables from frame 1 on map.
    fn guest() -> Written {
        let mut memory = Written::zeroed(32);
        for table in 1..4 {
            (1..512).for_each(|index| memory.set(table, index, 1 << 63));
            memory.set(table, 0, (table + 1) << 12 | 7);
        }
        memory.set(4, 0, 5 << 12 | 7);
        memory.set(4, 1, 6 << 12 | 7);
        memory.0.insert(5, SEED.page(0));
        memory.0.insert(6, SEED.page(1));
        memory
    }

    #[test]
    fn canaries_are_found_once_each_and_copies_too() {
        let mut memory = guest();
        memory.0.insert(9, SEED.page(1));
        let mut part = SEED.page(0);
        part[2048..].fill(0);
        memory.0.insert(10, part);
        let found = Canaries::find(&memory, SEED).unwrap();
        assert_eq!(found.whole, BTreeMap::from([(0, vec![5]), (1, vec![6, 9])]));
        assert_eq!(found.parts, [10]);
        assert_eq!(Canaries::find(&memory, Seed::new(8)).unwrap(), Canaries::default());
    }

    #[test]
    fn outside_are_copies_that_the_second_level_does_not_map() {
        let mut memory = guest();
        memory.0.insert(9, SEED.page(1));
        let outside = |memory: &Written| {
            let found = Canaries::find(memory, SEED).unwrap();
            found.outside(&Stage2::find(memory, 4, &found.frames()).unwrap())
        };
        assert_eq!(outside(&memory), 1);
        memory.set(4, 2, 9 << 12 | 7);
        assert_eq!(outside(&memory), 0, "the guest has moved it");
        assert_eq!(Canaries::find(&memory, SEED).unwrap().outside(&Stage2::default()), 3, "the guest is gone");
    }

    #[test]
    fn stage2_boots_own_tables_are_none() {
        let mut memory = guest();
        memory.set(4, 0, 0);
        memory.set(4, 1, 0);
        memory.set(4, 5, 5 << 12 | 7);
        memory.set(4, 6, 6 << 12 | 7);
        assert_eq!(Stage2::find(&memory, 4, &BTreeSet::from([6])).unwrap(), Stage2::default(), "all to itself");
        memory.set(4, 7, 8 << 12 | 7);
        memory.set(4, 8, 1 << 51 | 7 << 12 | 7);
        assert_eq!(Stage2::find(&memory, 4, &BTreeSet::from([6])).unwrap().roots, [1]);
        memory.set(4, 9, 400 << 12 | 7);
        assert_eq!(Stage2::find(&memory, 4, &BTreeSet::from([6])).unwrap(), Stage2::default(), "not memory");
    }

    #[test]
    fn stage2_is_what_leads_to_a_canary() {
        let stage2 = Stage2::find(&guest(), 4, &BTreeSet::from([6])).unwrap();
        assert_eq!((stage2.roots, stage2.frames, stage2.large), (vec![1], BTreeSet::from([5, 6]), 0));
        assert_eq!(Stage2::find(&guest(), 4, &BTreeSet::from([20])).unwrap(), Stage2::default());
    }
}
