// SPDX-License-Identifier: Apache-2.0
//! A child that the VMM forks, after what keeps guest RAM out of children (`MADV_DONTFORK`) was taken back.

use anyhow::Result;
use nix::sys::signal::Signal;

use super::pipe_write::write_from;
use crate::probes::{Outcome, Subject};
use crate::tracee::Tracee;

pub(super) fn run(subject: &Subject<'_>) -> Result<Outcome> {
    let mut parent = Tracee::attach(subject.pid())?;
    let (start, length) = (subject.ram.start, subject.ram.end - subject.ram.start);
    parent.must(libc::SYS_madvise, &[start, length, libc::MADV_DOFORK as u64])?;
    let mut child = parent.clone_with(0)?;
    let outcome = write_from(&mut child, subject, subject.planted[0]);
    child.end(Signal::SIGKILL, &mut parent)?;
    parent.must(libc::SYS_madvise, &[start, length, libc::MADV_DONTFORK as u64])?;
    outcome
}
