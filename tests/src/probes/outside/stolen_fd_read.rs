// SPDX-License-Identifier: Apache-2.0
//! `pidfd_getfd(2)` and then `pread(2)`.

use std::os::unix::fs::FileExt;

use anyhow::Result;
use secretvmm_canary::PAGE_SIZE;

use crate::probes::{Outcome, Subject, errno_of};

pub(super) fn run(subject: &Subject<'_>) -> Result<Outcome> {
    let file = subject.stolen_ram()?;
    let mut page = [0; PAGE_SIZE];
    Ok(match file.read_exact_at(&mut page, subject.offset(subject.planted[0])) {
        Ok(()) => subject.judge(&page),
        Err(error) => Outcome::refused(errno_of(&error)),
    })
}
