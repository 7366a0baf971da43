// SPDX-License-Identifier: Apache-2.0
//! `/proc/PID/mem`, the way of debuggers (ptrace access rules; also what `gdb` and `gcore` read).

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result};
use secretvmm_canary::PAGE_SIZE;

use super::{ByPolicy, Tally, Target, errno_of};

pub(super) fn run(target: &Target) -> Result<Tally> {
    let memory = open(target.pid, false)?;
    let mut tally = Tally::default();
    let mut page = [0; PAGE_SIZE];
    for at in &target.pages {
        match memory.read_at(&mut page, at.hva) {
            Ok(length) => tally.page(target.canary.seed, &page[..length]),
            Err(error) => tally.refusal(errno_of(&error)),
        }
    }
    Ok(tally)
}

/// Opens a process's memory; ptrace's rules are asked here, once.
pub(super) fn open(pid: u32, write: bool) -> Result<File> {
    let opened = OpenOptions::new().read(true).write(write).open(format!("/proc/{pid}/mem"));
    opened.map_err(|error| ByPolicy::or_error(errno_of(&error))).context("Cannot open /proc/PID/mem")
}
