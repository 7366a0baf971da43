// SPDX-License-Identifier: Apache-2.0
//! `userfaultfd(2)` in the VMM (include/uapi/linux/userfaultfd.h): whether its RAM's faults can be taken over.

use anyhow::Result;

use crate::probes::{Outcome, Subject};
use crate::tracee::Tracee;

const UFFDIO_API: u64 = 0xc018_aa3f;
const UFFDIO_REGISTER: u64 = 0xc020_aa00;
const UFFD_API: u64 = 0xaa;
/// Writes are noted without a message to anybody, in memory of any kind.
const UFFD_FEATURE_WP_ASYNC: u64 = 1 << 15;
const UFFDIO_REGISTER_MODE_MISSING: u64 = 1;
const UFFDIO_REGISTER_MODE_WP: u64 = 2;

pub(super) fn missing(subject: &Subject<'_>) -> Result<Outcome> {
    register(subject, 0, UFFDIO_REGISTER_MODE_MISSING)
}

pub(super) fn write_protect(subject: &Subject<'_>) -> Result<Outcome> {
    register(subject, 0, UFFDIO_REGISTER_MODE_WP)
}

pub(super) fn write_protect_async(subject: &Subject<'_>) -> Result<Outcome> {
    register(subject, UFFD_FEATURE_WP_ASYNC, UFFDIO_REGISTER_MODE_WP)
}

/// Registers the page of a canary; it is let go when the descriptor is closed.
fn register(subject: &Subject<'_>, features: u64, mode: u64) -> Result<Outcome> {
    let mut tracee = Tracee::attach(subject.pid())?;
    let descriptor = tracee.must(libc::SYS_userfaultfd, &[(libc::O_CLOEXEC | libc::O_NONBLOCK) as u64])?;
    let api = tracee.put_words(&[UFFD_API, features, 0])?;
    tracee.must(libc::SYS_ioctl, &[descriptor, UFFDIO_API, api])?;
    let range = tracee.put_words(&[subject.planted[0], 4096, mode, 0])?;
    let answer = tracee.call(libc::SYS_ioctl, &[descriptor, UFFDIO_REGISTER, range])?;
    tracee.close(descriptor)?;
    Ok(Outcome::took(answer))
}
