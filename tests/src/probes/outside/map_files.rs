// SPDX-License-Identifier: Apache-2.0
//! `/proc/PID/map_files`: opens the file behind the mapping anew.

use std::fs::OpenOptions;

use anyhow::Result;

use crate::probes::{Outcome, Subject, errno_of};

pub(super) fn run(subject: &Subject<'_>) -> Result<Outcome> {
    let path = format!("/proc/{}/map_files/{:x}-{:x}", subject.pid(), subject.ram.start, subject.ram.end);
    match OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => subject.judge_mapped(&file),
        Err(error) => Ok(Outcome::refused(errno_of(&error))),
    }
}
