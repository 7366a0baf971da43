// SPDX-License-Identifier: Apache-2.0
//! `/proc/PID/fd`: opens the file behind the descriptor anew, which gives a descriptor of its own.

use std::fs::OpenOptions;

use anyhow::Result;

use crate::probes::{Outcome, Subject, errno_of};

pub(super) fn run(subject: &Subject<'_>) -> Result<Outcome> {
    let number = subject.ram_descriptor()?;
    match OpenOptions::new().read(true).write(true).open(format!("/proc/{}/fd/{number}", subject.pid())) {
        Ok(file) => subject.judge_mapped(&file),
        Err(error) => Ok(Outcome::refused(errno_of(&error))),
    }
}
