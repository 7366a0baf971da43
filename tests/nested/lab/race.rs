// SPDX-License-Identifier: Apache-2.0
//! Guests that are killed, forked and robbed at any moment leave the host as it was. The debug host has many more.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::support::on_clean_host;

#[test]
fn some_hundred_guests_leave_the_host_as_it_was() -> Result<()> {
    run(200, 2, 1)
}

/// Runs the race, which prints its figures, and asserts that it ends well.
pub(crate) fn run(rounds: u32, vmms: u32, seed: u32) -> Result<()> {
    on_clean_host(|| {
        let mut race = Command::new("race");
        race.args(["--rounds", &rounds.to_string(), "--vmm-rounds", &vmms.to_string()]);
        race.args(["--seed", &seed.to_string()]);
        let status = race.status().context("Cannot start the race")?;
        ensure!(status.success(), "The race ended with {status}");
        Ok(())
    })
}
