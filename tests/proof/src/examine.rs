// SPDX-License-Identifier: Apache-2.0
//! What a dump says of a guest: where its memory is, and who can reach it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use secretvmm_canary::Seed;
use serde::{Deserialize, Serialize};

use crate::dump::Dump;
use crate::guest::{Canaries, Stage2};
use crate::map::{self, Block};
use crate::memory::{ENTRIES, Memory};
use crate::paging::{KERNEL, Leaf, Walker, frame, is_present, lookup};
use crate::roots::{self, Roots};

/// Places that a finding names; the rest are counted.
const NAMED: usize = 8;

/// A guest frame at a kernel's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The address.
    pub address: u64,
    /// The frame there.
    pub pfn: u64,
    /// Frames that the entry maps: 1, 512 or 262144.
    pub pages: u64,
}

/// A canary as it was read where the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// The kernel's address.
    pub address: u64,
    /// The frame there.
    pub pfn: u64,
    /// Which canary it is.
    pub index: u64,
    /// The first bytes of what lies there.
    pub bytes: [u8; 16],
}

/// A process whose page tables reach guest RAM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mapper {
    /// The frame of its root.
    pub root: u64,
    /// Guest frames it reaches.
    pub frames: u64,
    /// Lowest address of one, and the one after the highest.
    pub range: (u64, u64),
}

/// Entries of the direct map where guest frames would be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hidden {
    /// Frames whose entry is present: the direct map has them.
    pub mapped: u64,
    /// Frames whose entry is zero.
    pub empty: u64,
    /// Frames whose entry is not present and names a frame outside memory: safe from L1TF, which follows it.
    pub inverted: u64,
    /// Frames whose entry is not present and names a frame in memory: L1TF could read it.
    pub exposed: u64,
}

/// The findings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Findings {
    /// Frames of memory that the dump has.
    pub memory: u64,
    /// Levels of the host's page tables.
    pub levels: u8,
    /// Roots found with the kernel in them, and those of user mode under page-table isolation.
    pub roots: (u64, u64),
    /// CPUs, and how many of them were on one of these roots; the others were running the guest.
    pub cpus: (u64, u64),
    /// Canaries found whole, by their index.
    pub canaries: u64,
    /// Frames that hold a canary or a part of one outside guest RAM: all, when the guest is gone.
    pub copies: u64,
    /// The guest's second-level page tables: how many roots, frames, and frames in entries of 2 MiB or more.
    pub stage2: (u64, u64, u64),
    /// Guest frames: those of the canaries and of the second level, which is all that the guest has touched.
    pub guest_frames: u64,
    /// Guest frames that a kernel half reaches, each counted once.
    pub reachable: u64,
    /// Some of the places.
    pub places: Vec<Place>,
    /// The first canary among all of them.
    pub sample: Option<Sample>,
    /// Who reaches guest frames in a user half.
    pub mappers: Vec<Mapper>,
    /// The direct map's entries for guest frames.
    pub hidden: Hidden,
    /// All present entries of the direct map: of 4 KiB, 2 MiB and 1 GiB.
    pub entries: [u64; 3],
    /// Physical memory from frame 0 on, 2 MiB a block.
    pub map: Vec<Block>,
}

/// Looks for the guest whose canaries come from `seed`.
///
/// # Errors
/// The dump cannot be read or is of no Linux host.
pub fn examine(dump: &Dump, seed: Seed) -> Result<Findings> {
    let (levels, roots) = host_tables(dump)?;
    let canaries = Canaries::find(dump, seed)?;
    let stage2 = Stage2::find(dump, levels, &canaries.frames())?;
    let guest: BTreeSet<u64> = canaries.frames().union(&stage2.frames).copied().collect();
    let mappers = mappers(dump, levels, &roots, &guest)?;
    let kernel = Kernel::walk(dump, levels, &roots, &guest)?;
    let sample = sample(dump, &kernel.reached, &canaries)?;
    let (hidden, shredded) = hidden(dump, levels, &roots, &guest)?;
    let indices = canaries.whole.len() as u64;
    let on_roots = dump.cpus().iter().filter(|cpu| is_on(cpu.cr3, &roots)).count() as u64;
    Ok(Findings {
        memory: dump.frames(),
        levels,
        roots: (roots.kernel.len() as u64, roots.user.len() as u64),
        cpus: (dump.cpus().len() as u64, on_roots),
        canaries: indices,
        copies: canaries.outside(&stage2),
        stage2: (stage2.roots.len() as u64, stage2.frames.len() as u64, stage2.large),
        guest_frames: guest.len() as u64,
        reachable: kernel.reached.len() as u64,
        mappers,
        hidden,
        entries: [1, 512, 512 * 512].map(|size| kernel.direct.iter().filter(|leaf| leaf.pages == size).count() as u64),
        map: map::draw(&kernel.direct, &guest, &shredded, dump)?,
        places: kernel.places,
        sample,
    })
}

/// The host's page tables and their levels. A CPU that was running the guest has the guest's levels.
fn host_tables(dump: &Dump) -> Result<(u8, Roots)> {
    let likely = dump.levels();
    match roots::find(dump, likely) {
        Ok(roots) => Ok((likely, roots)),
        Err(_) => roots::find(dump, 9 - likely).map(|roots| (9 - likely, roots)),
    }
}

/// Whether a CPU's CR3 names a root: without PCID, and on the kernel's side of an isolated pair.
fn is_on(cr3: u64, roots: &Roots) -> bool {
    let pfn = frame(cr3);
    roots.kernel.contains(&pfn) || roots.user.contains(&pfn)
}

/// What the kernel halves of all roots reach.
#[derive(Default)]
struct Kernel {
    /// Frames, and an address of each.
    reached: BTreeMap<u64, u64>,
    places: Vec<Place>,
    /// The direct map's leaves.
    direct: Vec<Leaf>,
}

impl Kernel {
    fn walk(memory: &impl Memory, levels: u8, roots: &Roots, guest: &BTreeSet<u64>) -> Result<Self> {
        let mut kernel = Kernel::default();
        let mut walker = Walker::new(memory, levels);
        for &root in roots.kernel.iter().chain(&roots.user) {
            walker.walk(root, KERNEL..ENTRIES, &mut |leaf| kernel.leaf(leaf, roots.direct_map, guest))?;
        }
        for &root in &roots.kernel {
            Walker::new(memory, levels).walk(root, 0..KERNEL, &mut |leaf| {
                if is_identity(&leaf) {
                    kernel.leaf(leaf, roots.direct_map, guest);
                }
            })?;
        }
        Ok(kernel)
    }

    fn leaf(&mut self, leaf: Leaf, direct_map: u64, guest: &BTreeSet<u64>) {
        if leaf.address.wrapping_sub(leaf.pfn << 12) == direct_map {
            self.direct.push(leaf);
        }
        for &pfn in guest.range(leaf.pfn..leaf.pfn + leaf.pages) {
            let address = leaf.address + ((pfn - leaf.pfn) << 12);
            self.reached.insert(pfn, address);
            if self.places.len() < NAMED {
                self.places.push(Place { address, pfn, pages: leaf.pages });
            }
        }
    }
}

/// Reads the first canary that the kernel reaches.
fn sample(memory: &impl Memory, reached: &BTreeMap<u64, u64>, canaries: &Canaries) -> Result<Option<Sample>> {
    for (&index, frames) in &canaries.whole {
        for &pfn in frames {
            if let (Some(&address), Some(page)) = (reached.get(&pfn), memory.page(pfn)?)
                && let Some(&bytes) = page.first_chunk()
            {
                return Ok(Some(Sample { address, pfn, index, bytes }));
            }
        }
    }
    Ok(None)
}

/// Finds the processes that reach guest frames.
fn mappers(memory: &impl Memory, levels: u8, roots: &Roots, guest: &BTreeSet<u64>) -> Result<Vec<Mapper>> {
    let mut found = Vec::new();
    for &root in &roots.kernel {
        let mut leaves = Vec::new();
        Walker::new(memory, levels).walk(root, 0..KERNEL, &mut |leaf| leaves.push(leaf))?;
        leaves.retain(|leaf| !is_identity(leaf) && guest.range(leaf.pfn..leaf.pfn + leaf.pages).next().is_some());
        if !leaves.is_empty() {
            found.push(mapper(root, &leaves, guest));
        }
    }
    Ok(found)
}

/// Whether memory is mapped at its own physical address: the kernel's, for CPUs that start (`trampoline_pgd`).
fn is_identity(leaf: &Leaf) -> bool {
    leaf.address == leaf.pfn << 12
}

fn mapper(root: u64, leaves: &[Leaf], guest: &BTreeSet<u64>) -> Mapper {
    let (mut frames, mut range) = (BTreeSet::new(), (u64::MAX, 0));
    for leaf in leaves {
        for &pfn in guest.range(leaf.pfn..leaf.pfn + leaf.pages) {
            frames.insert(pfn);
            let address = leaf.address + ((pfn - leaf.pfn) << 12);
            range = (range.0.min(address), range.1.max(address + (1 << 12)));
        }
    }
    Mapper { root, frames: frames.len() as u64, range }
}

/// Looks at the entries of the direct map itself, by the first root: all have the same. Gives the blocks, too, whose
/// missing entries are of 4 KiB.
fn hidden(memory: &impl Memory, levels: u8, roots: &Roots, guest: &BTreeSet<u64>) -> Result<(Hidden, BTreeSet<u64>)> {
    let (mut hidden, mut shredded) = (Hidden::default(), BTreeSet::new());
    for &pfn in guest {
        let end = lookup(memory, roots.kernel[0], levels, roots.direct_map + (pfn << 12))?;
        if end.level == 1 && !end.is_mapped() {
            shredded.insert(pfn / map::BLOCK);
        }
        if is_present(end.entry) {
            hidden.mapped += 1;
        } else if end.entry == 0 {
            hidden.empty += 1;
        } else if !memory.has(frame(end.entry)) {
            hidden.inverted += 1;
        } else {
            hidden.exposed += 1;
        }
    }
    Ok((hidden, shredded))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(address: u64, pfn: u64, pages: u64) -> Leaf {
        Leaf { address, pfn, pages }
    }

    #[test]
    fn mapper_counts_each_guest_frame_once_and_tells_where() {
        let leaves = [leaf(0x1000, 7, 1), leaf(0x5000, 7, 1), leaf(0x20_0000, 512, 512), leaf(0x9000, 3, 1)];
        let found = mapper(1, &leaves, &BTreeSet::from([7, 514]));
        assert_eq!(found, Mapper { root: 1, frames: 2, range: (0x1000, 0x20_3000) });
    }
}
