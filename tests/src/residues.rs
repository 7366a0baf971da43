// SPDX-License-Identifier: Apache-2.0
//! What a guest leaves behind on the host: nothing, however it ends.
//!
//! All of physical memory is read through the direct map while the guest works, and again after its VMM has ended: no
//! page of the guest's canary may be in it, be it a buffer, a cache or a frame that was given back. The control is a
//! copy of a canary page in this process's own memory, which the same scan must find.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use secretvmm_canary::{PAGE_SIZE, Seed};

use crate::area::Area;
use crate::guest::{BOOT_LIMIT, Ending, STEP_LIMIT};
use crate::host::jit;
use crate::host::kernel_log::KernelLog;
use crate::host::physical;
use crate::host::process::frames_of;
use crate::host::witness::Witness;
use crate::matrix::{Moment, Running, TargetKind};
use crate::race::dice::Dice;
use crate::race::ledger::Ledger;
use crate::report::figure;

/// The guest's load runs for so many ms at the most before the VMM is killed.
const LONGEST: u64 = 400;
/// File handles of the whole host that may differ, since the kernel counts and frees them late.
const HANDLES: u64 = 64;

/// Kills `kills` VMMs with SIGKILL, each at a moment of its guest's disk and network I/O that is left to chance, and
/// powers one off.
///
/// # Errors
/// A canary was found, the control was not, or the host is not as it was.
pub fn run(kills: u64, seed: u64) -> Result<()> {
    jit::keep()?;
    let witness = Witness::load()?;
    let mut log = KernelLog::from_now()?;
    let mut dice = Dice::new(seed);
    // What only the first use costs is paid before the host is looked at.
    for backing in [TargetKind::Secret4k, TargetKind::Secret2m] {
        kill_one(backing, &witness, &mut dice)?;
    }
    let (ledger, handles, descriptors) = (Ledger::now()?, file_handles()?, own_descriptors()?);
    for number in 0..kills {
        let backing = if dice.once_in(2) { TargetKind::Secret4k } else { TargetKind::Secret2m };
        kill_one(backing, &witness, &mut dice).with_context(|| format!("Kill {number} of seed {seed}"))?;
    }
    power_off(&witness)?;
    log.assert_clean()?;
    ledger.assert_same()?;
    ensure!(own_descriptors()? == descriptors, "This process has descriptors that it had not");
    let now = file_handles()?;
    ensure!(now <= handles + HANDLES, "The host had {handles} open files and has {now}");
    figure("residues: VMMs killed", kills, "");
    Ok(())
}

fn kill_one(backing: TargetKind, witness: &Witness, dice: &mut Dice) -> Result<()> {
    let mut running = Running::start(backing, Moment::Io)?;
    let seed = running.canary().seed;
    sleep(Duration::from_millis(dice.below(LONGEST)));
    assert_none(witness, seed, "while the guest runs")?;
    let ending = running.end_by(Signal::SIGKILL)?;
    ensure!(ending == Ending::Signal(9), "SIGKILL ended it with {ending:?}");
    assert_none(witness, seed, "after SIGKILL")?;
    assert_control(witness, seed)
}

fn power_off(witness: &Witness) -> Result<()> {
    let mut running = Running::start(TargetKind::Secret2m, Moment::Io)?;
    let seed = running.canary().seed;
    let ending = running.power_off(BOOT_LIMIT.max(STEP_LIMIT))?;
    ensure!(ending == Ending::Code(0), "The power-off ended with {ending:?}");
    assert_none(witness, seed, "after the power-off")?;
    assert_control(witness, seed)
}

fn assert_none(witness: &Witness, seed: Seed, when: &str) -> Result<()> {
    let found = physical::scan(witness, seed)?;
    ensure!(found.pages > 0, "The scan read nothing");
    ensure!(
        found.frames.is_empty(),
        "{} canary pages are in the direct map {when}: {:x?}",
        found.frames.len(),
        found.frames
    );
    Ok(())
}

/// The same scan finds a canary of the same seed, in ordinary memory.
fn assert_control(witness: &Witness, seed: Seed) -> Result<()> {
    let own = Area::private(PAGE_SIZE)?;
    own.put(0, &seed.page(1));
    let frame = frames_of(&own)?;
    let found = physical::scan(witness, seed)?.frames;
    own.put(0, &[0; PAGE_SIZE]);
    ensure!(frame.iter().all(|pfn| found.contains(pfn)), "INVALID: the scan does not even find our own canary");
    Ok(())
}

/// Open files of the whole host.
fn file_handles() -> Result<u64> {
    let text = fs::read_to_string("/proc/sys/fs/file-nr")?;
    text.split_ascii_whitespace().next().context("An empty file-nr")?.parse().context("An odd file-nr")
}

fn own_descriptors() -> Result<usize> {
    Ok(fs::read_dir("/proc/self/fd")?.count())
}
