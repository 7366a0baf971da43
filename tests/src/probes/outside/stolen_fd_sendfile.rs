// SPDX-License-Identifier: Apache-2.0
//! `pidfd_getfd(2)` and then `sendfile(2)` into a pipe.

use std::io::Read;

use anyhow::Result;
use nix::sys::sendfile::sendfile;
use secretvmm_canary::PAGE_SIZE;

use crate::probes::{Outcome, Subject};

pub(super) fn run(subject: &Subject<'_>) -> Result<Outcome> {
    let file = subject.stolen_ram()?;
    let (mut reader, writer) = std::io::pipe()?;
    let mut offset = i64::try_from(subject.offset(subject.planted[0]))?;
    let mut page = [0; PAGE_SIZE];
    match sendfile(&writer, &file, Some(&mut offset), PAGE_SIZE) {
        Ok(length) => reader.read_exact(&mut page[..length])?,
        Err(errno) => return Ok(Outcome::refused(errno)),
    }
    Ok(subject.judge(&page))
}
