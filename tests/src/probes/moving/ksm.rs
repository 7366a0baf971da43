// SPDX-License-Identifier: Apache-2.0
//! Kernel samepage merging. The target's RAM has many pages with the same contents; so have a few pages of the prober's
//! own, which must be merged, or the daemon did not work.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::area::Area;
use crate::host::process::{frames_of, resident_pages};
use crate::probes::{Outcome, Subject};
use crate::tracee::Tracee;

const FOLDER: &str = "/sys/kernel/mm/ksm";
/// A page is merged in the second scan after it came, mostly in the third at the latest: not if somebody holds it then.
const SCANS: u64 = 3;
const BAIT: usize = 16 * 4096;
const LIMIT: Duration = Duration::from_secs(60);

pub(super) fn run(subject: &Subject<'_>) -> Result<Outcome> {
    let (start, length) = (subject.ram.start, subject.ram.end - subject.ram.start);
    let before = frames(subject)?;
    let mut tracee = Tracee::attach(subject.pid())?;
    let answer = tracee.call(libc::SYS_madvise, &[start, length, libc::MADV_MERGEABLE as u64])?;
    let bait = Area::private(BAIT)?;
    bait.touch();
    bait.allow_merging()?;
    scan_and_merge(&bait)?;
    let after = frames(subject)?;
    let changed = before.iter().filter(|page| after.iter().any(|now| now.0 == page.0 && now.1 != page.1)).count();
    tracee.call(libc::SYS_madvise, &[start, length, libc::MADV_UNMERGEABLE as u64])?.context("Still merged")?;
    Ok(Outcome::of_move(changed, answer.map(drop)))
}

/// Some pages of the RAM, with their frames, in order.
fn frames(subject: &Subject<'_>) -> Result<Vec<(u64, u64)>> {
    let pages = resident_pages(subject.pid())?.into_iter();
    let inside = pages.filter(|page| (subject.ram.start..subject.ram.end).contains(&page.hva));
    Ok(inside.map(|page| (page.hva, page.pfn)).step_by(7).collect())
}

/// Lets the daemon look at everything, until it has merged pages of the bait.
fn scan_and_merge(bait: &Area) -> Result<()> {
    put("pages_to_scan", 100_000)?;
    put("sleep_millisecs", 10)?;
    let begun = full_scans()?;
    put("run", 1)?;
    let deadline = Instant::now() + LIMIT;
    while full_scans()? < begun + SCANS || !is_merged(bait)? {
        ensure!(Instant::now() < deadline, "KSM has not even merged our own pages in {LIMIT:?}");
        sleep(Duration::from_millis(20));
    }
    put("run", 0)
}

fn is_merged(bait: &Area) -> Result<bool> {
    Ok(frames_of(bait)?.windows(2).any(|pair| pair[0] == pair[1]))
}

fn full_scans() -> Result<u64> {
    Ok(fs::read_to_string(format!("{FOLDER}/full_scans"))?.trim().parse()?)
}

fn put(file: &str, value: u64) -> Result<()> {
    fs::write(format!("{FOLDER}/{file}"), value.to_string()).with_context(|| format!("Cannot set KSM's {file}"))
}
