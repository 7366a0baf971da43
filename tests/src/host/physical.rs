//! All of physical memory through the direct map, by the witness module.

use std::fs;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use secretvmm_canary::{PAGE_SIZE, Seed};

use super::witness::Witness;

const PIECE: usize = 1 << 20;

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

/// Reads every page of RAM that the direct map has, and looks for canaries of a seed.
///
/// # Errors
/// The map of RAM or the module cannot be read.
pub fn scan(witness: &Witness, seed: Seed) -> Result<Found> {
    let memory = witness.physical()?;
    let mut found = Found::default();
    let mut piece = vec![0; PIECE];
    for range in ram()? {
        let mut at = range.start;
        while at < range.end {
            let wanted = PIECE.min(usize::try_from(range.end - at)?);
            let read = read(&memory, &mut piece[..wanted], at)?;
            for (page, pfn) in piece[..read].chunks_exact(PAGE_SIZE).zip(at / PAGE_SIZE as u64..) {
                found.pages += 1;
                found.frames.extend(seed.recognise(page).map(|_| pfn));
            }
            found.refused += u64::from(read == 0);
            at += read.max(PAGE_SIZE) as u64;
        }
    }
    // What was read stays nowhere: a later scan would find it.
    piece.fill(0);
    Ok(found)
}

/// Bytes up to the next hole; 0 at a hole.
fn read(memory: &File, piece: &mut [u8], at: u64) -> Result<usize> {
    match memory.read_at(piece, at) {
        Err(error) if error.raw_os_error() == Some(Errno::EFAULT as i32) => Ok(0),
        other => other.with_context(|| format!("Cannot read physical memory at {at:#x}")),
    }
}

/// `System RAM` of `/proc/iomem`, in whole pages.
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
    let start = u64::from_str_radix(start, 16).ok()?.next_multiple_of(page);
    let end = (u64::from_str_radix(end, 16).ok()? + 1) / page * page;
    (name == "System RAM" && start < end).then_some(start..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ram_range_takes_whole_pages_of_ram_and_nothing_inside_it() {
        assert_eq!(ram_range("00001000-0009fbff : System RAM"), Some(0x1000..0x9f000));
        assert_eq!(ram_range("  01000000-01ffffff : Kernel code"), None);
        assert_eq!(ram_range("000a0000-000bffff : PCI Bus 0000:00"), None);
        assert_eq!(ram_range("00000000-00000000 : System RAM"), None);
    }
}
