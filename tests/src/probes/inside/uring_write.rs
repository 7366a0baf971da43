// SPDX-License-Identifier: Apache-2.0
//! io_uring without a registered buffer: the VMM's own write by another door, and a known leak as that is.

use std::io::Read;

use anyhow::Result;
use secretvmm_canary::PAGE_SIZE;

use super::uring::Ring;
use crate::probes::{Outcome, Subject};
use crate::tracee::Tracee;

const IORING_OP_WRITE: u8 = 23;

pub(super) fn run(subject: &Subject<'_>) -> Result<Outcome> {
    let mut tracee = Tracee::attach(subject.pid())?;
    let ring = Ring::new(&mut tracee)?;
    let (mut reader, writer) = tracee.pipe()?;
    let answer = ring.write(&mut tracee, IORING_OP_WRITE, writer, subject.planted[0], PAGE_SIZE as u32)?;
    ring.close(&mut tracee)?;
    tracee.close(writer)?;
    let mut page = [0; PAGE_SIZE];
    match answer {
        Ok(()) => reader.read_exact(&mut page)?,
        Err(errno) => return Ok(Outcome::refused(errno)),
    }
    Ok(subject.judge(&page))
}
