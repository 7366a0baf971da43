// SPDX-License-Identifier: Apache-2.0
//! `/proc/PID/mem` with a file position, as old debuggers read it.

use std::io::{Read, Seek, SeekFrom};

use anyhow::Result;
use secretvmm_canary::PAGE_SIZE;

use crate::probes::{Outcome, Subject, proc_mem};

pub(super) fn run(subject: &Subject<'_>) -> Result<Outcome> {
    let mut memory = proc_mem::open(subject.pid(), false)?;
    memory.seek(SeekFrom::Start(subject.planted[0]))?;
    let mut page = [0; PAGE_SIZE];
    Ok(match memory.read_exact(&mut page) {
        Ok(()) => subject.judge(&page),
        Err(error) => Outcome::refused(crate::probes::errno_of(&error)),
    })
}
