//! `MADV_COLLAPSE`: what khugepaged does, at once. Small pages are copied into a huge one.

use anyhow::Result;

use crate::probes::{Outcome, Subject};
use crate::sys::process_madvise;

const HUGE: u64 = 2 << 20;

pub(super) fn run(subject: &Subject<'_>) -> Result<Outcome> {
    let process = subject.pidfd()?;
    subject.moved_by(|| {
        let answers = subject.planted.iter().map(|hva| {
            let start = (hva / HUGE * HUGE).max(subject.ram.start);
            process_madvise(&process, start, HUGE, libc::MADV_COLLAPSE)
        });
        Ok(answers.collect())
    })
}
