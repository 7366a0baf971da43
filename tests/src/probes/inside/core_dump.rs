// SPDX-License-Identifier: Apache-2.0
//! Core dumps by the kernel. A process that shares the VMM's memory dies in its place.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use secretvmm_canary::PAGE_SIZE;

use crate::probes::{Class, Outcome, Subject, Tally};
use crate::tracee::Tracee;

const PATTERN: &str = "/proc/sys/kernel/core_pattern";
const CORE: &str = "/dev/shm/secretvmm-core";
/// Every kind of mapping (Documentation/filesystems/proc.rst, coredump_filter).
const EVERYTHING: &str = "0x1ff";

/// With what the VMM and the kernel have set.
pub(super) fn as_it_is(subject: &Subject<'_>) -> Result<Outcome> {
    dump(subject, &mut Tracee::attach(subject.pid())?)
}

/// After everything that asks for less was taken back.
pub(super) fn of_everything(subject: &Subject<'_>) -> Result<Outcome> {
    let filter = format!("/proc/{}/coredump_filter", subject.pid());
    let before = fs::read_to_string(&filter)?;
    let mut tracee = Tracee::attach(subject.pid())?;
    let (start, length) = (subject.ram.start, subject.ram.end - subject.ram.start);
    let dumpable = tracee.must(libc::SYS_prctl, &[libc::PR_GET_DUMPABLE as u64])?;
    tracee.must(libc::SYS_prctl, &[libc::PR_SET_DUMPABLE as u64, 1])?;
    tracee.must(libc::SYS_madvise, &[start, length, libc::MADV_DODUMP as u64])?;
    fs::write(&filter, EVERYTHING)?;
    let outcome = dump(subject, &mut tracee);
    fs::write(&filter, format!("0x{}", before.trim()))?;
    tracee.must(libc::SYS_madvise, &[start, length, libc::MADV_DONTDUMP as u64])?;
    tracee.must(libc::SYS_prctl, &[libc::PR_SET_DUMPABLE as u64, dumpable])?;
    outcome
}

fn dump(subject: &Subject<'_>, tracee: &mut Tracee) -> Result<Outcome> {
    let pattern = fs::read_to_string(PATTERN)?;
    let _ = fs::remove_file(CORE);
    fs::write(PATTERN, CORE)?;
    let limits = tracee.put_words(&[u64::MAX, u64::MAX])?;
    let before = tracee.put_words(&[0, 0])?;
    tracee.must(libc::SYS_prlimit64, &[0, u64::from(libc::RLIMIT_CORE), limits, before])?;
    let child = tracee.clone_with(libc::CLONE_VM as u64)?;
    child.end(Signal::SIGABRT, tracee)?;
    tracee.must(libc::SYS_prlimit64, &[0, u64::from(libc::RLIMIT_CORE), before, 0])?;
    fs::write(PATTERN, pattern)?;
    if !Path::new(CORE).exists() {
        return Ok(Outcome::new(Class::Absent, "the kernel wrote no core dump"));
    }
    let outcome = search(subject);
    fs::remove_file(CORE).context("The core dump stays")?;
    outcome
}

fn search(subject: &Subject<'_>) -> Result<Outcome> {
    let core = File::open(CORE).context("Cannot open the core dump")?;
    let length = core.metadata()?.len();
    ensure!(length > 1 << 16, "The core dump has {length} bytes only");
    let mut tally = Tally::default();
    let mut piece = vec![0; 1 << 20];
    for start in (0..length).step_by(piece.len()) {
        let read = core.read_at(&mut piece, start)?;
        piece[..read].chunks(PAGE_SIZE).for_each(|page| tally.page(subject.target.canary.seed, page));
    }
    Ok(Outcome::from(&tally))
}
