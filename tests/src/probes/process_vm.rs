// SPDX-License-Identifier: Apache-2.0
//! `process_vm_readv(2)` from another process.

use std::io::IoSliceMut;

use anyhow::Result;
use nix::errno::Errno;
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;
use secretvmm_canary::PAGE_SIZE;

use super::{ByPolicy, Tally, Target};

pub(super) fn run(target: &Target) -> Result<Tally> {
    let mut tally = Tally::default();
    let mut page = [0; PAGE_SIZE];
    for at in &target.pages {
        let remote = RemoteIoVec { base: usize::try_from(at.hva)?, len: PAGE_SIZE };
        let pid = Pid::from_raw(target.pid.cast_signed());
        match process_vm_readv(pid, &mut [IoSliceMut::new(&mut page)], &[remote]) {
            Ok(length) => tally.page(target.canary.seed, &page[..length]),
            // Asked of the process, before any address.
            Err(errno @ Errno::EPERM) => return Err(ByPolicy(errno).into()),
            Err(errno) => tally.refusal(errno),
        }
    }
    Ok(tally)
}
