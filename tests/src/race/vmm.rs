// SPDX-License-Identifier: Apache-2.0
//! A round with `secretvmm` itself in the victim's place.

use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::unistd::Pid;

use super::board::{Board, Count};
use super::dice::Dice;
use super::thief;
use crate::artifacts::{GUEST_BZIMAGE, artifact};

/// The VMM is killed at the latest after so many lives of a victim: its guest's kernel runs by then.
const LONGEST: u32 = 100;

/// Starts a guest, tries to use its memory, kills it.
pub(super) fn round(board: &Board, dice: &mut Dice, life: Duration) -> Result<()> {
    let mut command = Command::new("secretvmm");
    command.arg("--kernel").arg(artifact(GUEST_BZIMAGE)?).args(["--mem", "64M", "--cpus", "2"]);
    // No pipe, and so no thread that would read it.
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut vmm = command.spawn().context("Cannot start secretvmm")?;
    sleep(dice.up_to(life * LONGEST));
    let stolen = thief::take(Pid::from_raw(vmm.id().cast_signed()))?;
    let ended = vmm.try_wait()?;
    ensure!(ended.is_none(), "secretvmm ended by itself: {ended:?}");
    if dice.once_in(2) {
        vmm.kill()?;
        vmm.wait()?;
    }
    if let Some(file) = &stolen {
        thief::assert_closed(file).context("secretvmm's memory")?;
        board.add(Count::ThiefRefused);
    }
    vmm.kill()?;
    vmm.wait()?;
    board.add(Count::Vmms);
    Ok(())
}
