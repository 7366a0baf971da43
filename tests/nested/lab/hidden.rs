// SPDX-License-Identifier: Apache-2.0
//! The main claim: nothing outside the guest reads its memory, and the same probes do read an ordinary guest.

use anyhow::{Result, ensure};
use secretvmm_tests::evidence;
use secretvmm_tests::toy::{self, Outcome, Ram};

use crate::support::{assert_hidden, on_clean_host, own_guest, power_off, wait_until_populated};

#[test]
fn probes_read_the_ordinary_guest_and_not_the_hidden_one() -> Result<()> {
    evidence::demo("512M")
}

#[test]
fn toy_guest_on_secret_memory_runs() -> Result<()> {
    on_clean_host(|| {
        ensure!(toy::run(Ram::Anonymous)? == Outcome::Halted, "The control did not run");
        let outcome = toy::run(Ram::Secret)?;
        ensure!(outcome == Outcome::Halted, "Got {outcome:?}");
        Ok(())
    })
}

#[test]
fn guest_that_fills_its_memory_stays_hidden() -> Result<()> {
    on_clean_host(|| {
        let mut guest = own_guest()?.memory("128M").start()?;
        guest.wait_for_shell()?;
        assert_hidden(&guest)?;
        let written = guest.shell("dd if=/dev/urandom of=/tmp/fill bs=1M count=40 2>/dev/null; ls -l /tmp/fill")?;
        ensure!(written.contains("41943040"), "The guest could not fill its memory: {written}");
        wait_until_populated(&guest, 128 * 256)?;
        assert_hidden(&guest)?;
        power_off(&mut guest)
    })
}
