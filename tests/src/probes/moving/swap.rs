// SPDX-License-Identifier: Apache-2.0
//! `MADV_PAGEOUT` with a swap device, and a look at all of that device.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use secretvmm_canary::PAGE_SIZE;

use crate::area::Area;
use crate::probes::{Class, Outcome, Subject, Tally};
use crate::sys;

const DEVICE: &str = "/dev/ram0";
const PIECE: usize = 1 << 20;

pub(super) fn run(subject: &Subject<'_>) -> Result<Outcome> {
    begin()?;
    let process = subject.pidfd()?;
    // A huge page goes as a whole or not at all.
    let answer = subject.planted.iter().try_for_each(|&hva| {
        let (start, length) = subject.huge_around(hva);
        sys::process_madvise(&process, start, length, libc::MADV_PAGEOUT)
    });
    let found = search(subject);
    sys::swap(c"/dev/ram0", false).context("Cannot cease to swap")?;
    let found = found?;
    Ok(match answer {
        Err(errno) if found.class != Class::Hit => Outcome::refused(errno),
        _ => found,
    })
}

/// Makes the device new and swaps to it.
fn begin() -> Result<()> {
    let mut mkswap = Command::new("busybox");
    let made = mkswap.args(["mkswap", DEVICE]).stdout(Stdio::null()).status().context("Cannot run mkswap")?;
    ensure!(made.success(), "mkswap failed: {made}");
    sys::swap(c"/dev/ram0", true).context("Cannot swap")
}

/// Past the cache, which knows nothing of what was swapped.
fn search(subject: &Subject<'_>) -> Result<Outcome> {
    let mut device = File::options().read(true).custom_flags(libc::O_DIRECT).open(DEVICE)?;
    let length = device.seek(SeekFrom::End(0))?;
    let piece = Area::ordinary(PIECE)?;
    let mut tally = Tally::default();
    let mut bytes = vec![0; PIECE];
    for at in (0..length).step_by(PIECE) {
        piece.fill_from(&device, i64::try_from(at)?)?;
        piece.get(0, &mut bytes);
        bytes.chunks(PAGE_SIZE).for_each(|page| tally.page(subject.target.canary.seed, page));
    }
    Ok(Outcome::from(&tally))
}
