// SPDX-License-Identifier: Apache-2.0
//! A descriptor that is kept over exec (close-on-exec taken back), and mapped by the program that follows.

use anyhow::Result;
use nix::sys::signal::Signal;
use secretvmm_canary::PAGE_SIZE;

use super::pipe_write::write_from;
use crate::probes::{Outcome, Subject};
use crate::tracee::Tracee;

/// Any program: it never gets to its first line.
const PROGRAM: &str = "/bin/busybox";

pub(super) fn run(subject: &Subject<'_>) -> Result<Outcome> {
    let number = subject.ram_descriptor()? as u64;
    let mut parent = Tracee::attach(subject.pid())?;
    let mut child = parent.clone_with(0)?;
    let outcome = map_after_exec(&mut child, subject, number);
    child.end(Signal::SIGKILL, &mut parent)?;
    outcome
}

fn map_after_exec(child: &mut Tracee, subject: &Subject<'_>, descriptor: u64) -> Result<Outcome> {
    child.must(libc::SYS_fcntl, &[descriptor, libc::F_SETFD as u64, 0])?;
    child.exec(PROGRAM)?;
    let (length, access) = (PAGE_SIZE as u64, libc::PROT_READ as u64);
    let offset = subject.offset(subject.planted[0]);
    match child.call(libc::SYS_mmap, &[0, length, access, libc::MAP_SHARED as u64, descriptor, offset])? {
        Ok(address) => write_from(child, subject, address),
        Err(errno) => Ok(Outcome::refused(errno)),
    }
}
