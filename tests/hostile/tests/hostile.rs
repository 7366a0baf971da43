// SPDX-License-Identifier: Apache-2.0
//! The release build under hostile guests; `cargo xtask test` runs this where there is a KVM.
//!
//! `secretvmm-hostile --seed N` does what the test of that seed does, for as long as one likes.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use secretvmm_hostile::{Attack, Backing, Company, End, Outcome, Sink};

/// One VM at a time: they share the network, and the figures are of one VMM that is not held up by another.
static ONE: Mutex<()> = Mutex::new(());

fn attack(seed: u64, seconds: u64) -> Result<Attack> {
    let program = std::env::var_os("SECRETVMM").context("SECRETVMM is not set; run this through `cargo xtask test`")?;
    Ok(Attack::new(PathBuf::from(program), Backing::Shared, seed, Duration::from_secs(seconds)))
}

fn survived(attack: &Attack) -> Result<Outcome> {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let outcome = attack.run()?;
    eprintln!("seed {}: {outcome}", attack.seed);
    outcome.judge(attack)?;
    Ok(outcome)
}

#[test]
fn everything_at_once() -> Result<()> {
    for seed in 1..=3 {
        survived(&attack(seed, 8)?)?;
    }
    Ok(())
}

#[test]
fn resets_and_rings_outside_memory() -> Result<()> {
    survived(&Attack { round: Some(1), ..attack(11, 6)? }).map(drop)
}

#[test]
fn queues_with_mistakes() -> Result<()> {
    survived(&Attack { round: Some(2), ..attack(12, 6)? }).map(drop)
}

#[test]
fn ports_of_every_width() -> Result<()> {
    survived(&Attack { round: Some(3), ..attack(13, 3)? }).map(drop)
}

#[test]
fn registers_of_every_width() -> Result<()> {
    survived(&Attack { round: Some(4), ..attack(14, 3)? }).map(drop)
}

#[test]
fn connections_that_end_at_once_leave_nothing() -> Result<()> {
    let outcome = survived(&Attack { round: Some(5), company: Company::Listeners, ..attack(15, 15)? })?;
    ensure!(outcome.growth() <= 64, "It grew by {} KiB: {:?}", outcome.growth(), outcome.memory);
    Ok(())
}

#[test]
fn a_dialogue_with_the_metadata_service() -> Result<()> {
    survived(&Attack { round: Some(6), ..attack(16, 6)? }).map(drop)
}

#[test]
fn chains_as_long_as_there_can_be() -> Result<()> {
    survived(&Attack { round: Some(7), ..attack(17, 6)? }).map(drop)
}

#[test]
fn a_log_that_is_of_no_use() -> Result<()> {
    for (seed, stderr) in (21..).zip([Sink::Unread, Sink::NonBlocking, Sink::Broken, Sink::Full]) {
        survived(&Attack { round: Some(1), stderr, ..attack(seed, 4)? }).with_context(|| format!("{stderr:?}"))?;
    }
    Ok(())
}

#[test]
fn a_console_that_is_of_no_use() -> Result<()> {
    for (seed, stdout) in (31..).zip([Sink::Unread, Sink::NonBlocking, Sink::Broken, Sink::Full]) {
        survived(&Attack { round: Some(3), stdout, ..attack(seed, 3)? }).with_context(|| format!("{stdout:?}"))?;
    }
    Ok(())
}

#[test]
fn each_way_to_end() -> Result<()> {
    for (seed, end) in (41..).zip([End::Keyboard, End::Reset, End::Off, End::Panic, End::Fault]) {
        let outcome = survived(&Attack { end, rounds: 4, ..attack(seed, 60)? })?;
        ensure!(outcome.time < Duration::from_secs(60), "{end:?} does not end the machine");
    }
    Ok(())
}

#[test]
fn a_seed_tells_all_that_the_guest_does() -> Result<()> {
    let again = Attack { rounds: 10, end: End::Off, company: Company::Nobody, ..attack(51, 60)? };
    let (first, second) = (survived(&again)?.operations, survived(&again)?.operations);
    ensure!(first == second, "{first} operations, then {second}");
    Ok(())
}
