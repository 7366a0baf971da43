// SPDX-License-Identifier: Apache-2.0
//! `/dev/mem`, read: through the direct map. The lab kernel has no STRICT_DEVMEM.

use std::fs::File;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result};
use secretvmm_canary::PAGE_SIZE;

use crate::probes::{Outcome, Subject, errno_of};

pub(super) fn run(subject: &Subject<'_>) -> Result<Outcome> {
    let memory = File::open("/dev/mem").context("Cannot open /dev/mem")?;
    let mut page = [0; PAGE_SIZE];
    let physical = subject.frame(subject.planted[0])? * PAGE_SIZE as u64;
    Ok(match memory.read_exact_at(&mut page, physical) {
        Ok(()) => subject.judge(&page),
        Err(error) => Outcome::refused(errno_of(&error)),
    })
}
