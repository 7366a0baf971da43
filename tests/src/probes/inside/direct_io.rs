// SPDX-License-Identifier: Apache-2.0
//! A write with `O_DIRECT`: the disk takes the pages themselves.

use anyhow::Result;
use secretvmm_canary::PAGE_SIZE;

use super::ram_disk;
use crate::probes::{Outcome, Subject};
use crate::tracee::Tracee;

pub(super) fn run(subject: &Subject<'_>) -> Result<Outcome> {
    ram_disk::blank()?;
    let mut tracee = Tracee::attach(subject.pid())?;
    let disk = tracee.open(ram_disk::PATH, libc::O_RDWR | libc::O_DIRECT)?;
    let written = tracee.call(libc::SYS_pwrite64, &[disk, subject.planted[0], PAGE_SIZE as u64, 0])?;
    tracee.close(disk)?;
    match written {
        Ok(_) => Ok(subject.judge(&ram_disk::first_page()?)),
        Err(errno) => Ok(Outcome::refused(errno)),
    }
}
