// SPDX-License-Identifier: Apache-2.0
//! `process_vm_writev(2)`: overwrites the last word of a canary page, which the canary outlives.

use std::io::IoSlice;

use anyhow::Result;
use nix::sys::uio::{RemoteIoVec, process_vm_writev};
use nix::unistd::Pid;
use secretvmm_canary::PAGE_SIZE;

use crate::probes::{ByPolicy, Outcome, Subject};

pub(super) fn run(subject: &Subject<'_>) -> Result<Outcome> {
    let pid = Pid::from_raw(subject.pid().cast_signed());
    let word = [0x5a; 8];
    let at = usize::try_from(subject.planted[0])? + PAGE_SIZE - word.len();
    let remote = RemoteIoVec { base: at, len: word.len() };
    match process_vm_writev(pid, &[IoSlice::new(&word)], &[remote]) {
        Err(errno @ nix::errno::Errno::EPERM) => Err(ByPolicy(errno).into()),
        written => Ok(Outcome::took(written)),
    }
}
