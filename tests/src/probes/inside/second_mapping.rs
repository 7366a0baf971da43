// SPDX-License-Identifier: Apache-2.0
//! The VMM maps its file once more, without the care that it took the first time, and another process reads there.

use std::io::IoSliceMut;

use anyhow::Result;
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;
use secretvmm_canary::PAGE_SIZE;

use crate::probes::{Outcome, Subject};
use crate::tracee::Tracee;

pub(super) fn run(subject: &Subject<'_>) -> Result<Outcome> {
    let number = subject.ram_descriptor()?;
    let mut tracee = Tracee::attach(subject.pid())?;
    let (length, access) = (PAGE_SIZE as u64, (libc::PROT_READ | libc::PROT_WRITE) as u64);
    let offset = subject.offset(subject.planted[0]);
    let shared = libc::MAP_SHARED as u64;
    let address = tracee.must(libc::SYS_mmap, &[0, length, access, shared, number as u64, offset])?;
    let mut page = [0; PAGE_SIZE];
    let remote = RemoteIoVec { base: usize::try_from(address)?, len: PAGE_SIZE };
    let pid = Pid::from_raw(subject.pid().cast_signed());
    let read = process_vm_readv(pid, &mut [IoSliceMut::new(&mut page)], &[remote]);
    tracee.must(libc::SYS_munmap, &[address, length])?;
    Ok(match read {
        Ok(_) => subject.judge(&page),
        Err(errno) => Outcome::refused(errno),
    })
}
