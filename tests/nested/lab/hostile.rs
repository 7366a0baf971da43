// SPDX-License-Identifier: Apache-2.0
//! Hostile guests on secret memory, for a short time: this machine is emulated. On ordinary memory tests/hostile has more.

use std::time::Duration;

use anyhow::Result;
use secretvmm_hostile::{Attack, Backing, End};

use crate::support::program;

/// An emulated processor is slow, and not the VMM.
const PATIENCE: Duration = Duration::from_secs(5);

fn attack(seed: u64) -> Result<Attack> {
    let attack = Attack::new(program("secretvmm")?, Backing::Secret, seed, Duration::from_secs(20));
    Ok(Attack { patience: PATIENCE, ..attack })
}

#[test]
fn hostile_guest_on_secret_memory_is_survived() -> Result<()> {
    let attack = attack(1)?;
    let outcome = attack.run()?;
    eprintln!("{outcome}");
    outcome.judge(&attack)
}

#[test]
fn hostile_guest_on_secret_memory_ends_itself() -> Result<()> {
    let attack = Attack { rounds: 2, end: End::Fault, limit: Duration::from_secs(240), ..attack(2)? };
    attack.run()?.judge(&attack)
}
