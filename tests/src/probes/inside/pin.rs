// SPDX-License-Identifier: Apache-2.0
//! A long-term pin, as VFIO, RDMA and iommufd take it, by the kernel's own test of it (mm/gup_test.c).

use std::fs::File;
use std::os::fd::AsFd;

use anyhow::{Context, Result};
use nix::errno::Errno;
use secretvmm_canary::PAGE_SIZE;

use crate::area::Area;
use crate::probes::{Outcome, Subject};
use crate::sys::ioctl;
use crate::tracee::Tracee;

const PATH: &str = "/sys/kernel/debug/gup_test";
/// mm/gup_test.h.
const PIN_LONGTERM_TEST_START: u64 = 0x4018_6707;
const PIN_LONGTERM_TEST_STOP: u64 = 0x6708;
const PIN_LONGTERM_TEST_READ: u64 = 0x4008_6709;
const USE_FAST: u64 = 2;

pub(super) fn slow(subject: &Subject<'_>) -> Result<Outcome> {
    run(subject, 0)
}

pub(super) fn fast(subject: &Subject<'_>) -> Result<Outcome> {
    run(subject, USE_FAST)
}

fn run(subject: &Subject<'_>, flags: u64) -> Result<Outcome> {
    let mut tracee = Tracee::attach(subject.pid())?;
    let test = tracee.open(PATH, libc::O_RDWR)?;
    let range = tracee.put_words(&[subject.planted[0], PAGE_SIZE as u64, flags])?;
    let answer = tracee.call(libc::SYS_ioctl, &[test, PIN_LONGTERM_TEST_START, range])?;
    let outcome = match answer {
        Ok(_) => Ok(subject.judge(&pinned(&tracee.take(test)?).context("Cannot read the pinned page")?)),
        Err(errno) => Ok(Outcome::refused(errno)),
    };
    tracee.close(test)?;
    outcome
}

/// The page that is pinned, read by its frame, and let go.
fn pinned(test: &File) -> Result<[u8; PAGE_SIZE], Errno> {
    let copy = Area::ordinary(PAGE_SIZE)?;
    ioctl(&test.as_fd(), PIN_LONGTERM_TEST_READ, &mut copy.address().to_ne_bytes())?;
    ioctl(&test.as_fd(), PIN_LONGTERM_TEST_STOP, &mut [])?;
    let mut page = [0; PAGE_SIZE];
    copy.get(0, &mut page);
    Ok(page)
}
