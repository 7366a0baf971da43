// SPDX-License-Identifier: Apache-2.0
//! Finds the page-table roots of a Linux host in its memory, without being told where they are.
//!
//! A root is a frame whose upper half leads to the direct map: addresses in a row that map physical memory in a row,
//! from its beginning on. All roots of a host have the same entries there. A root of a guest has such a half too, but
//! its entries are the guest's frame numbers and lead nowhere when they are taken for the host's.

use std::collections::{BTreeMap, HashMap};

use anyhow::Result;

use crate::memory::{ENTRIES, Memory, Table, table_of};
use crate::paging::{KERNEL, Walker, frame, is_present};

/// An entry of an upper level that no Linux root has.
const LARGE: u64 = 1 << 7;

/// The direct map's share of all memory below which a root is none: what is hidden is not there.
const LEAST_SHARE: u64 = 8;

/// Frames at the beginning of memory, which Linux keeps for itself: the direct map has one of them at least. The kernel's
/// image, which a table of a lower level may map, lies behind them.
const LOW_FRAMES: u64 = (1 << 20) >> 12;

/// The host's page tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roots {
    /// Frames of the roots that have the kernel whole.
    pub kernel: Vec<u64>,
    /// Frames of the roots that processes run on in user mode under page-table isolation: each follows a kernel one.
    pub user: Vec<u64>,
    /// Address of physical address 0 in the direct map.
    pub direct_map: u64,
}

/// The entries of a root's upper half, without the bits that the CPU sets.
type Half = Vec<u64>;

const ACCESSED_DIRTY: u64 = 0x60;

/// Looks at every frame of the memory.
///
/// # Errors
/// The memory cannot be read, or has no root.
pub fn find(memory: &impl Memory, levels: u8) -> Result<Roots> {
    let mut halves: HashMap<Half, Vec<u64>> = HashMap::new();
    let end = last_frame(memory)?;
    memory.for_each_page(&mut |pfn, page| {
        let last = page.last_chunk::<8>().map_or(0, |entry| u64::from_le_bytes(*entry));
        if is_present(last) && frame(last) <= end {
            let table = table_of(page);
            if may_be_root(&table, end) {
                halves.entry(kernel_half(&table)).or_default().push(pfn);
            }
        }
    })?;
    let mut found: Option<(u64, Roots)> = None;
    for pfns in halves.into_values() {
        let Some((direct_map, mapped)) = direct_map(memory, levels, pfns[0])? else { continue };
        match &mut found {
            Some((most, roots)) if roots.direct_map == direct_map => {
                *most = (*most).max(mapped);
                roots.kernel.extend(pfns);
            }
            Some((most, _)) if *most >= mapped => {}
            _ => found = Some((mapped, Roots { kernel: pfns, user: Vec::new(), direct_map })),
        }
    }
    let (_, mut roots) = found.ok_or_else(|| anyhow::anyhow!("There is no Linux page-table root in this memory"))?;
    roots.kernel.sort_unstable();
    for &pfn in &roots.kernel {
        roots.user.extend(user_root(memory, pfn, end)?);
    }
    Ok(roots)
}

fn last_frame(memory: &impl Memory) -> Result<u64> {
    // The hole below 4 GiB makes it more than there are; only sizes beyond any memory are to be told.
    const HOLE: u64 = (4 << 30) >> 12;
    Ok(memory.frames() + HOLE)
}

/// Whether a table could be a root: its upper half has more than one entry, and each is a table in memory.
fn may_be_root(table: &Table, end: u64) -> bool {
    let present = |entry: &&u64| is_present(**entry);
    table[KERNEL..].iter().filter(present).count() > 1
        && table.iter().filter(present).all(|entry| entry & LARGE == 0 && frame(*entry) <= end)
}

fn kernel_half(table: &Table) -> Half {
    table[KERNEL..].iter().map(|entry| entry & !ACCESSED_DIRTY).collect()
}

/// The direct map below a root: its beginning, and how many frames it maps.
fn direct_map(memory: &impl Memory, levels: u8, root: u64) -> Result<Option<(u64, u64)>> {
    let mut by_distance: BTreeMap<u64, (u64, bool)> = BTreeMap::new();
    let mut walker = Walker::new(memory, levels);
    walker.walk(root, KERNEL..ENTRIES, &mut |leaf| {
        let (pages, low) = by_distance.entry(leaf.address.wrapping_sub(leaf.pfn << 12)).or_default();
        *pages += leaf.pages;
        *low |= leaf.pfn < LOW_FRAMES;
    })?;
    // A table of a lower level, taken for a root, has pages where tables should be.
    if walker.invalid() > 0 {
        return Ok(None);
    }
    let from_beginning = by_distance.into_iter().filter_map(|(start, (pages, low))| low.then_some((start, pages)));
    let most = from_beginning.max_by_key(|&(_, pages)| pages);
    Ok(most.filter(|&(_, pages)| pages >= memory.frames() / LEAST_SHARE))
}

/// The root for user mode beside a kernel's: the frame after it, with the same entries in the lower half
/// (arch/x86/include/asm/pgtable.h, `kernel_to_user_pgdp`).
fn user_root(memory: &impl Memory, pfn: u64, end: u64) -> Result<Option<u64>> {
    let (Some(kernel), Some(user)) = (memory.table(pfn)?, memory.table(pfn + 1)?) else { return Ok(None) };
    let same = |index: usize| {
        is_present(kernel[index]) == is_present(user[index])
            && (!is_present(user[index]) || frame(kernel[index]) == frame(user[index]))
    };
    let beside = pfn.is_multiple_of(2) && is_present(user[ENTRIES - 1]) && frame(user[ENTRIES - 1]) <= end;
    Ok((beside && (0..KERNEL).all(same)).then_some(pfn + 1))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::memory::tests::Written;

    const TABLE: u64 = 0x63;

    /// A host of 512 frames whose direct map, at entry 273, is the table of 2 MiB at frame 4, and whose image is at
    /// frame 6; `roots` lead there.
    fn host(roots: &[u64]) -> Written {
        let mut memory = Written::zeroed(512);
        memory.set(3, 0, 4 << 12 | TABLE);
        memory.set(4, 0, LARGE | TABLE);
        for &root in roots {
            memory.set(root, 273, 3 << 12 | TABLE);
            memory.set(root, 511, 6 << 12 | TABLE);
        }
        memory
    }

    #[test]
    fn find_takes_every_root_and_tells_the_direct_map() {
        let roots = find(&host(&[8, 12]), 4).unwrap();
        assert_eq!(roots, Roots { kernel: vec![8, 12], user: vec![], direct_map: 0xffff_8880_0000_0000 });
    }

    #[test]
    fn find_accessed_bits_and_user_entries_make_no_other_host() {
        let mut memory = host(&[8, 12]);
        memory.set(12, 273, 3 << 12 | TABLE & !ACCESSED_DIRTY);
        memory.set(12, 3, 7 << 12 | 0x67);
        assert_eq!(find(&memory, 4).unwrap().kernel, [8, 12]);
    }

    #[test]
    fn find_isolated_process_has_a_second_root() {
        let mut memory = host(&[8, 12]);
        memory.set(12, 3, 7 << 12 | 0x67);
        memory.set(13, 3, 7 << 12 | 0x67);
        memory.set(13, 511, 9 << 12 | TABLE);
        assert_eq!(find(&memory, 4).unwrap().user, [13]);
        memory.set(13, 4, 7 << 12 | 0x67);
        assert_eq!(find(&memory, 4).unwrap().user, [], "other entries");
    }

    #[test]
    fn find_a_table_of_a_lower_level_is_no_root() {
        let mut memory = host(&[8]);
        // As a root it would map 1 GiB, from a frame that is not at a multiple of that.
        memory.set(40, 300, 41 << 12 | TABLE);
        memory.set(40, 511, 41 << 12 | TABLE);
        memory.set(41, 0, 512 << 12 | LARGE | TABLE);
        memory.set(41, 1, LARGE | TABLE);
        assert_eq!(find(&memory, 4).unwrap().kernel, [8]);
    }

    #[test]
    fn find_a_table_of_the_kernels_image_is_no_root_however_much_it_maps() {
        let mut memory = Written::zeroed(4096);
        // The table of level 4 that a root of five levels has for the image, at 4 MiB: 6 MiB of 16.
        memory.set(8, 510, 2 << 12 | TABLE);
        memory.set(8, 511, 3 << 12 | TABLE);
        memory.set(3, 510, 4 << 12 | TABLE);
        (0..3).for_each(|at| memory.set(4, at, ((1024 + 512 * at as u64) << 12) | LARGE | TABLE));
        assert!(find(&memory, 4).is_err());
    }

    #[test]
    fn find_a_guests_root_or_none_is_not_taken() {
        let mut memory = host(&[8]);
        memory.set(20, 273, 30 << 12 | TABLE);
        memory.set(20, 511, 31 << 12 | TABLE);
        assert_eq!(find(&memory, 4).unwrap().kernel, [8]);
        assert!(find(&Written::zeroed(64), 4).is_err());
    }
}
