// SPDX-License-Identifier: Apache-2.0
//! All of physical memory through the direct map, by the witness module.

use std::fs;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use secretvmm_canary::{PAGE_SIZE, Seed};

use super::witness::Witness;

/// What the module says of a frame that the direct map has not.
const HOLE: u64 = u64::MAX;
/// Frames looked at in one go: as many as the module answers for at once.
const PIECE: usize = PAGE_SIZE / 8;

/// What a scan found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Pages that could be read.
    pub pages: u64,
    /// Pages that were a fault.
    pub refused: u64,
    /// Frames that carry a canary of the seed.
    pub frames: Vec<u64>,
}

/// Looks at every page of RAM that the direct map has for canaries of a seed: at its first word, and at all of it where
/// that is a canary's.
///
/// # Errors
/// The map of RAM or the module cannot be read.
pub fn scan(witness: &Witness, seed: Seed) -> Result<Found> {
    let (heads, memory) = (witness.heads()?, witness.physical()?);
    let mut found = Found::default();
    for range in ram()? {
        let mut pfn = range.start;
        while pfn < range.end {
            let count = PIECE.min(usize::try_from(range.end - pfn)?);
            let mut words = vec![0; 8 * count];
            heads.read_exact_at(&mut words, 8 * pfn).with_context(|| format!("Cannot look at frame {pfn:#x}"))?;
            for (word, pfn) in words.chunks_exact(8).zip(pfn..) {
                let mut bytes = [0; 8];
                bytes.copy_from_slice(word);
                found.look_at(u64::from_ne_bytes(bytes), pfn, seed, &memory)?;
            }
            pfn += count as u64;
        }
    }
    Ok(found)
}

impl Found {
    fn look_at(&mut self, head: u64, pfn: u64, seed: Seed, memory: &File) -> Result<()> {
        match head {
            HOLE => self.refused += 1,
            _ => self.pages += 1,
        }
        if seed.index_of(head).is_none() {
            return Ok(());
        }
        let mut page = [0; PAGE_SIZE];
        match memory.read_exact_at(&mut page, pfn * PAGE_SIZE as u64) {
            // It went out of the direct map just now.
            Err(error) if error.raw_os_error() == Some(Errno::EFAULT as i32) => {}
            read => read.with_context(|| format!("Cannot read frame {pfn:#x}"))?,
        }
        self.frames.extend(seed.recognise(&page).map(|_| pfn));
        // What was read stays nowhere: a later scan would find it.
        page.fill(0);
        std::hint::black_box(&page);
        Ok(())
    }
}

/// `System RAM` of `/proc/iomem`, as numbers of whole frames.
fn ram() -> Result<Vec<Range<u64>>> {
    let text = fs::read_to_string("/proc/iomem").context("Cannot read /proc/iomem")?;
    let ranges = text.lines().filter_map(ram_range).collect::<Vec<_>>();
    ensure!(!ranges.is_empty(), "/proc/iomem shows no RAM; run as root");
    Ok(ranges)
}

fn ram_range(line: &str) -> Option<Range<u64>> {
    let (range, name) = line.split_once(" : ")?;
    let (start, end) = range.split_once('-')?;
    let page = PAGE_SIZE as u64;
    let start = u64::from_str_radix(start, 16).ok()?.div_ceil(page);
    let end = (u64::from_str_radix(end, 16).ok()? + 1) / page;
    (name == "System RAM" && start < end).then_some(start..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ram_range_takes_whole_pages_of_ram_and_nothing_inside_it() {
        assert_eq!(ram_range("00001000-0009fbff : System RAM"), Some(0x1..0x9f));
        assert_eq!(ram_range("  01000000-01ffffff : Kernel code"), None);
        assert_eq!(ram_range("000a0000-000bffff : PCI Bus 0000:00"), None);
        assert_eq!(ram_range("00000000-00000000 : System RAM"), None);
    }
}
