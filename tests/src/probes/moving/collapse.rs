// SPDX-License-Identifier: Apache-2.0
//! `MADV_COLLAPSE`: what khugepaged does, at once. Small pages are copied into a huge one.

use anyhow::Result;

use crate::probes::{Outcome, Subject};
use crate::sys::process_madvise;

pub(super) fn run(subject: &Subject<'_>) -> Result<Outcome> {
    let process = subject.pidfd()?;
    subject.moved_by(|| {
        let answers = subject.planted.iter().map(|hva| {
            let (start, length) = subject.huge_around(*hva);
            process_madvise(&process, start, length, libc::MADV_COLLAPSE)
        });
        Ok(answers.collect())
    })
}
