//! Compaction of all memory, on request.

use std::fs;

use anyhow::{Context, Result};

use crate::host::process::{frame_at, resident_pages};
use crate::probes::{Outcome, Subject};

pub(super) fn run(subject: &Subject<'_>) -> Result<Outcome> {
    let mut before = resident_pages(subject.pid())?;
    before.retain(|page| (subject.ram.start..subject.ram.end).contains(&page.hva));
    fs::write("/proc/sys/vm/compact_memory", "1").context("Cannot compact memory")?;
    let mut changed = 0;
    for page in before {
        changed += usize::from(frame_at(subject.pid(), page.hva)?.is_some_and(|frame| frame != page.pfn));
    }
    Ok(Outcome::of_move(changed, Ok(())))
}
