// SPDX-License-Identifier: Apache-2.0
//! Compaction of all memory, on request. Pages of the prober's own, scattered, must be moved by it, or it did nothing.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;

use anyhow::{Context, Result, bail};
use secretvmm_canary::PAGE_SIZE;

use crate::area::Area;
use crate::host::direct_map::meminfo_bytes;
use crate::host::process::resident_pages;
use crate::probes::{Outcome, Subject};

/// Bait that is laid at a time: until some of it lies where compaction takes pages from, at the lower end of a zone.
const BAIT: usize = 128 << 20;
/// More bait at most.
const TRIES: usize = 5;
/// Free memory that is left in any case, in bytes.
const SPARE: u64 = 256 << 20;

pub(super) fn run(subject: &Subject<'_>) -> Result<Outcome> {
    let theirs = subject.ram.start..subject.ram.end;
    let before = pages(subject.pid(), &theirs)?;
    let mut baits = Vec::new();
    for _ in 0..TRIES {
        baits.push(scattered()?);
        if compaction_moves(&baits)? {
            return Ok(Outcome::of_move(moved(&before, &pages(subject.pid(), &theirs)?), Ok(())));
        }
        if meminfo_bytes("MemAvailable:")?.unwrap_or(0) < BAIT as u64 + SPARE {
            break;
        }
    }
    bail!("Compaction has not even moved one of our own pages, of {} times {} MiB", baits.len(), BAIT >> 20)
}

/// Compacts all memory; tells whether any page of the bait moved.
fn compaction_moves(baits: &[Area]) -> Result<bool> {
    let all = || baits.iter().map(|bait| pages(std::process::id(), &range(bait))).collect::<Result<Vec<_>>>();
    let before = all()?;
    fs::write("/proc/sys/vm/compact_memory", "1").context("Cannot compact memory")?;
    Ok(before.iter().zip(&all()?).any(|(before, after)| moved(before, after) > 0))
}

fn range(area: &Area) -> Range<u64> {
    area.address()..area.address() + area.length() as u64
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
