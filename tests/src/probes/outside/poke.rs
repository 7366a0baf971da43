// SPDX-License-Identifier: Apache-2.0
//! `PTRACE_POKEDATA`, as a debugger sets a breakpoint: the last word of a canary page.

use anyhow::Result;
use nix::sys::ptrace;
use nix::unistd::Pid;
use secretvmm_canary::PAGE_SIZE;

use crate::probes::{Outcome, Subject};
use crate::tracee::Tracee;

pub(super) fn run(subject: &Subject<'_>) -> Result<Outcome> {
    let tracee = Tracee::attach(subject.pid())?;
    let pid = Pid::from_raw(tracee.pid().cast_signed());
    let at = subject.planted[0] + PAGE_SIZE as u64 - 8;
    Ok(Outcome::took(ptrace::write(pid, at as ptrace::AddressType, 0x5a5a_5a5a)))
}
