//! Compaction of all memory, on request. Pages of the prober's own, scattered, must be moved by it, or it did nothing.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;

use anyhow::{Context, Result, ensure};
use secretvmm_canary::PAGE_SIZE;

use crate::area::Area;
use crate::host::process::resident_pages;
use crate::probes::{Outcome, Subject};

/// Enough to reach over a good part of the host's memory.
const BAIT: usize = 128 << 20;

pub(super) fn run(subject: &Subject<'_>) -> Result<Outcome> {
    let bait = scattered()?;
    let (own, here) = (bait.address()..bait.address() + bait.length() as u64, std::process::id());
    let (theirs, there) = (subject.ram.start..subject.ram.end, subject.pid());
    let before = (pages(here, &own)?, pages(there, &theirs)?);
    fs::write("/proc/sys/vm/compact_memory", "1").context("Cannot compact memory")?;
    let after = (pages(here, &own)?, pages(there, &theirs)?);
    ensure!(moved(&before.0, &after.0) > 0, "Compaction has not even moved one of our own pages");
    Ok(Outcome::of_move(moved(&before.1, &after.1), Ok(())))
}

/// Memory in small pages, of which every other one is free again.
fn scattered() -> Result<Area> {
    let bait = Area::private(BAIT).context("No memory to scatter")?;
    bait.use_small_pages()?;
    bait.touch();
    (0..BAIT).step_by(2 * PAGE_SIZE).try_for_each(|offset| bait.discard(offset))?;
    Ok(bait)
}

/// The pages that are there, with their frames.
fn pages(pid: u32, range: &Range<u64>) -> Result<BTreeMap<u64, u64>> {
    let pages = resident_pages(pid)?.into_iter().filter(|page| range.contains(&page.hva));
    Ok(pages.map(|page| (page.hva, page.pfn)).collect())
}

/// How many pages have another frame now.
fn moved(before: &BTreeMap<u64, u64>, after: &BTreeMap<u64, u64>) -> usize {
    before.iter().filter(|(hva, pfn)| after.get(hva).is_some_and(|now| now != *pfn)).count()
}
