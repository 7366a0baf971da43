// SPDX-License-Identifier: Apache-2.0
//! io_uring with a registered buffer: pages that the kernel keeps pinned, written to a pipe.

use std::io::Read;

use anyhow::Result;
use nix::errno::Errno;
use secretvmm_canary::PAGE_SIZE;

use super::uring::Ring;
use crate::probes::{Outcome, Subject};
use crate::tracee::Tracee;

const IORING_OP_WRITE_FIXED: u8 = 5;

pub(super) fn run(subject: &Subject<'_>) -> Result<Outcome> {
    let mut tracee = Tracee::attach(subject.pid())?;
    let ring = Ring::new(&mut tracee)?;
    let (mut reader, writer) = tracee.pipe()?;
    let answer = write(&mut tracee, &ring, writer, subject.planted[0])?;
    ring.close(&mut tracee)?;
    tracee.close(writer)?;
    let mut page = [0; PAGE_SIZE];
    match answer {
        Ok(()) => reader.read_exact(&mut page)?,
        Err(errno) => return Ok(Outcome::refused(errno)),
    }
    Ok(subject.judge(&page))
}

fn write(tracee: &mut Tracee, ring: &Ring, pipe: u64, address: u64) -> Result<Result<(), Errno>> {
    match ring.register(tracee, address, PAGE_SIZE as u64)? {
        Ok(()) => ring.write(tracee, IORING_OP_WRITE_FIXED, pipe, address, PAGE_SIZE as u32),
        refused => Ok(refused),
    }
}
