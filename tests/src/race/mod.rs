// SPDX-License-Identifier: Apache-2.0
//! Guests on secret memory against everything that may happen to them at the wrong moment.
//!
//! ```text
//!  driver ─ fork ─ victim: secret file, mapping, toy guest ─ fork ─ children that write to what they inherit
//!     └─ takes the victim's descriptor (SCM_RIGHTS, pidfd_getfd), tries to map it, to run a guest on it, to populate
//!        it; kills the victim and its children at a moment that is left to chance
//! ```
//!
//! Processes, not threads, so that each has an address space of its own. What must not happen is noted on a [`Board`]
//! that all of them share. In the end the host must be as it was: [`Ledger`].

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use secretmem::memlock;

use crate::host::jit;
use crate::report::figure;
use board::{Board, Count};
use dice::Dice;
use ledger::Ledger;
use plan::Plan;
use victim::Victim;

mod board;
pub(crate) mod dice;
pub(crate) mod ledger;
mod plan;
mod thief;
mod victim;
mod vmm;

/// Rounds before the host is looked at for the first time: what only the first use costs is paid then.
const WARM_UP: u64 = 20;
/// A look at the secret memory that is left, so that a leak is found near the round that made it; and a line that tells
/// how far a long run is.
const CHECK_EVERY: u64 = 500;

/// Runs `rounds` toy guests and, among them, `vmm_rounds` of `secretvmm`.
///
/// # Errors
/// Somebody got memory that is not his, a call failed that never may, the host is not as it was, or something that the
/// race is about did not happen at all.
pub fn run(rounds: u64, vmm_rounds: u64, seed: u64) -> Result<()> {
    memlock::make_room(u64::MAX)?;
    jit::keep()?;
    let board = Board::new()?;
    let mut dice = Dice::new(seed);
    let life = life()?;
    figure("race: life of a victim", life.as_micros(), "us");
    for number in 0..WARM_UP {
        round(&board, &mut dice, life).with_context(|| format!("Warm-up round {number}"))?;
    }
    if vmm_rounds > 0 {
        vmm::round(&board, &mut dice, life)?;
    }
    let before = Ledger::now()?;
    let begun = Instant::now();
    for number in 0..rounds {
        round(&board, &mut dice, life).with_context(|| format!("Round {number} of seed {seed}"))?;
        // Spread over all rounds.
        if (number + 1) * vmm_rounds / rounds > number * vmm_rounds / rounds {
            vmm::round(&board, &mut dice, life).with_context(|| format!("VMM after round {number} of seed {seed}"))?;
        }
        if number % CHECK_EVERY == CHECK_EVERY - 1 {
            ledger::wait_for_no_secret_memory().with_context(|| format!("After round {number} of seed {seed}"))?;
            figure(&format!("{} rounds, after", number + 1), begun.elapsed().as_secs(), "s");
        }
    }
    figure(&format!("time of {rounds} rounds and {vmm_rounds} VMs"), begun.elapsed().as_millis(), "ms");
    board.print();
    ledger::wait_for_no_secret_memory()?;
    before.assert_same()?;
    board.assert_all_happened(rounds >= 100)
}

/// How long a victim lives that nobody disturbs: the shortest of some lives.
fn life() -> Result<Duration> {
    const LIVES: u64 = 8;
    let board = Board::new()?;
    let mut shortest = Duration::MAX;
    for _ in 0..LIVES {
        let begun = Instant::now();
        Victim::start(Plan::UNDISTURBED, &board)?.leaves()?;
        shortest = shortest.min(begun.elapsed());
    }
    ensure!(board.get(Count::Guests) == LIVES, "INVALID: a guest that nobody disturbs does not run");
    Ok(shortest)
}

/// One victim, from its start to its end.
fn round(board: &Board, dice: &mut Dice, life: Duration) -> Result<()> {
    let plan = Plan::roll(dice, life);
    let mut victim = Victim::start(plan, board)?;
    std::thread::sleep(dice.up_to(plan.patience));
    let stolen = thief::steal(&victim, dice)?;
    if plan.kill_first {
        victim.end()?;
    }
    if let Some(file) = &stolen {
        thief::try_all(file, plan, board, dice)?;
    }
    victim.end()?;
    drop(stolen);
    ensure!(board.get(Count::Violations) == 0, "Memory went where it must not, with {plan:?}");
    Ok(())
}
