// SPDX-License-Identifier: Apache-2.0
//! `write(2)` by the VMM itself: a known leak, since guest RAM is mapped in the VMM.

use std::io::Read;

use anyhow::Result;
use secretvmm_canary::PAGE_SIZE;

use crate::probes::{Outcome, Subject};
use crate::tracee::Tracee;

pub(super) fn run(subject: &Subject<'_>) -> Result<Outcome> {
    write_from(&mut Tracee::attach(subject.pid())?, subject, subject.planted[0])
}

/// Lets a process write the page at one of its addresses into a pipe.
pub(super) fn write_from(tracee: &mut Tracee, subject: &Subject<'_>, address: u64) -> Result<Outcome> {
    let (mut reader, writer) = tracee.pipe()?;
    let written = tracee.call(libc::SYS_write, &[writer, address, PAGE_SIZE as u64])?;
    tracee.close(writer)?;
    let mut page = Vec::new();
    Ok(match written {
        Ok(_) => {
            reader.read_to_end(&mut page)?;
            subject.judge(&page)
        }
        Err(errno) => Outcome::refused(errno),
    })
}
