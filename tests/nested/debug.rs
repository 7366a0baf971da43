// SPDX-License-Identifier: Apache-2.0
//! The kernel with all its checks, which also runs the lab's tests: what its leak detector finds when guests are gone.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use secretvmm_tests::guest::STEP_LIMIT;

use crate::lab::race;
use crate::support::{assert_hidden, on_clean_host, own_guest, power_off};

/// Documentation/dev-tools/kmemleak.rst.
const KMEMLEAK: &str = "/sys/kernel/debug/kmemleak";
/// kmemleak reports nothing that is younger than 5 s.
const AGE: Duration = Duration::from_secs(6);

#[test]
fn guests_leave_no_kernel_memory_behind() -> Result<()> {
    on_clean_host(|| {
        order("scan")?;
        order("clear")?;
        let mut guest = own_guest()?.memory("128M").start()?;
        guest.wait_for_shell()?;
        assert_hidden(&guest)?;
        power_off(&mut guest)?;
        let mut guest = own_guest()?.memory("128M").start()?;
        guest.wait_for_shell()?;
        guest.signal(Signal::SIGKILL)?;
        guest.wait(STEP_LIMIT)?;

        assert_no_leaks()
    })
}

/// Ten thousand guests, in four parts that as many hosts run as the machine has CPUs: hours on one.
#[test]
fn first_2500_guests_leave_the_host_as_it_was() -> Result<()> {
    race_without_leaks(1)
}

#[test]
fn fourth_2500_guests_leave_the_host_as_it_was() -> Result<()> {
    race_without_leaks(4)
}

#[test]
fn second_2500_guests_leave_the_host_as_it_was() -> Result<()> {
    race_without_leaks(2)
}

#[test]
fn third_2500_guests_leave_the_host_as_it_was() -> Result<()> {
    race_without_leaks(3)
}

/// A quarter of the ten thousand, and what the leak detector finds after it. It looks at all memory every ten minutes by
/// itself, for minutes on this host: once, in the end, is enough.
fn race_without_leaks(seed: u32) -> Result<()> {
    order("scan=off")?;
    order("clear")?;
    race::run(2500, 10, seed)?;
    assert_no_leaks()?;
    order("scan=on")
}

/// Asserts that the kernel has lost no memory since kmemleak's list was cleared.
fn assert_no_leaks() -> Result<()> {
    sleep(AGE);
    // The first scan notes what has changed meanwhile, the second reports.
    order("scan")?;
    order("scan")?;
    let leaks = fs::read_to_string(KMEMLEAK).context("Cannot read kmemleak's report")?;
    ensure!(leaks.is_empty(), "The host's kernel lost memory:\n{leaks}");
    Ok(())
}

fn order(word: &str) -> Result<()> {
    fs::write(KMEMLEAK, word).with_context(|| format!("kmemleak does not take {word}"))
}
