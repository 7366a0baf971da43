// SPDX-License-Identifier: Apache-2.0
//! `/proc/PID/mem`, written to: the last word of a canary page.

use std::os::unix::fs::FileExt;

use anyhow::Result;
use secretvmm_canary::PAGE_SIZE;

use crate::probes::{Outcome, Subject, proc_mem};

pub(super) fn run(subject: &Subject<'_>) -> Result<Outcome> {
    let memory = proc_mem::open(subject.pid(), true)?;
    let word = [0x5a; 8];
    let at = subject.planted[0] + PAGE_SIZE as u64 - word.len() as u64;
    Ok(Outcome::took(memory.write_all_at(&word, at).map_err(|error| crate::probes::errno_of(&error))))
}
