// SPDX-License-Identifier: Apache-2.0
//! `/proc/PID/mem` in one read that begins in the page before and ends in the page after.

use std::os::unix::fs::FileExt;

use anyhow::Result;
use secretvmm_canary::PAGE_SIZE;

use crate::probes::{Outcome, Subject, proc_mem};

/// Bytes of each neighbour.
const OVER: usize = 8;

pub(super) fn run(subject: &Subject<'_>) -> Result<Outcome> {
    let memory = proc_mem::open(subject.pid(), false)?;
    let mut bytes = [0; OVER + PAGE_SIZE + OVER];
    Ok(match memory.read_exact_at(&mut bytes, subject.planted[0] - OVER as u64) {
        Ok(()) => subject.judge(&bytes[OVER..OVER + PAGE_SIZE]),
        Err(error) => Outcome::refused(crate::probes::errno_of(&error)),
    })
}
