// SPDX-License-Identifier: Apache-2.0
//! What `gcore` does: stops the process, then reads its mappings through `/proc/PID/mem` in large pieces.

use std::os::unix::fs::FileExt;

use anyhow::Result;
use secretvmm_canary::PAGE_SIZE;

use crate::probes::{Outcome, Subject, Tally, errno_of, proc_mem};
use crate::tracee::Tracee;

const PIECE: u64 = 1 << 20;

pub(super) fn run(subject: &Subject<'_>) -> Result<Outcome> {
    let _stopped = Tracee::attach(subject.pid())?;
    let memory = proc_mem::open(subject.pid(), false)?;
    let mut tally = Tally::default();
    let mut piece = vec![0; PIECE as usize];
    for start in (subject.ram.start..subject.ram.end).step_by(PIECE as usize) {
        match memory.read_at(&mut piece, start) {
            Ok(length) => {
                piece[..length].chunks(PAGE_SIZE).for_each(|page| tally.page(subject.target.canary.seed, page));
            }
            Err(error) => tally.refusal(errno_of(&error)),
        }
    }
    Ok(Outcome::from(&tally))
}
