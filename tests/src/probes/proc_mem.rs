//! `/proc/PID/mem`, the way of debuggers (ptrace access rules; also what `gdb` and `gcore` read).

use std::fs::File;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result};
use nix::errno::Errno;
use secretvmm_canary::PAGE_SIZE;

use super::{Tally, Target};

pub(super) fn run(target: &Target) -> Result<Tally> {
    let memory = File::open(format!("/proc/{}/mem", target.pid)).context("Cannot open /proc/PID/mem")?;
    let mut tally = Tally::default();
    let mut page = [0; PAGE_SIZE];
    for at in &target.pages {
        match memory.read_at(&mut page, at.hva) {
            Ok(length) => tally.page(target.canary.seed, &page[..length]),
            Err(error) => tally.refusal(error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw)),
        }
    }
    Ok(tally)
}
