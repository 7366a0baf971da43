// SPDX-License-Identifier: Apache-2.0
//! `PTRACE_PEEKDATA`, word by word, as `gdb` does.

use anyhow::Result;
use nix::sys::ptrace;
use nix::unistd::Pid;
use secretvmm_canary::PAGE_SIZE;

use crate::probes::{Outcome, Subject};
use crate::tracee::Tracee;

pub(super) fn run(subject: &Subject<'_>) -> Result<Outcome> {
    let tracee = Tracee::attach(subject.pid())?;
    let pid = Pid::from_raw(tracee.pid().cast_signed());
    let mut page = [0; PAGE_SIZE];
    for (at, word) in (subject.planted[0]..).step_by(8).zip(page.chunks_exact_mut(8)) {
        match ptrace::read(pid, at as ptrace::AddressType) {
            Ok(value) => word.copy_from_slice(&value.to_ne_bytes()),
            Err(errno) => return Ok(Outcome::refused(errno)),
        }
    }
    Ok(subject.judge(&page))
}
