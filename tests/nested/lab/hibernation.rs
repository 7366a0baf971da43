// SPDX-License-Identifier: Apache-2.0
//! An image of all memory, as hibernation makes it, would have the guest in it. The host has no pool here: with one, the
//! kernel never makes an image.

use std::fs;
use std::io;

use anyhow::{Result, ensure};
use secretvmm_tests::area::Area;
use secretvmm_tests::holder::Holder;
use secretvmm_tests::secret;
use secretvmm_tests::toy::{Outcome, Program, ToyVm};

use crate::support::{on_clean_host, own_guest, power_off};

/// errno of a refusal (EPERM).
const EPERM: i32 = 1;

#[test]
fn image_of_memory_is_refused_as_long_as_a_guest_is_hidden() -> Result<()> {
    on_clean_host(|| {
        assert_hibernates("INVALID: this host would not hibernate anyway")?;
        let mut guest = own_guest()?.memory("128M").start()?;
        guest.wait_for_shell()?;
        assert_refused("a hidden guest")?;
        power_off(&mut guest)?;
        assert_hibernates("Refused without a guest")
    })
}

#[test]
fn image_of_memory_is_refused_as_long_as_there_is_one_secret_page() -> Result<()> {
    on_clean_host(|| {
        assert_hibernates("INVALID: this host would not hibernate anyway")?;
        // The descriptor is closed; the mapping alone keeps the page.
        let holder = Holder::start(&["--mib", "2", "--close"])?;
        ensure!(holder.result == "held", "No secret memory: {}", holder.result);
        assert_refused("a secret mapping")?;
        drop(holder);
        assert_hibernates("Refused without the mapping")?;

        let memory = Area::of_file(&secret::file(0, secret::HUGE_SIZE)?, secret::HUGE_SIZE)?;
        let mut guest = ToyVm::on(&memory)?;
        ensure!(guest.run(Program::Write, 0x8000)? == Outcome::Halted, "The guest does not run");
        assert_refused("a guest's page")?;
        ensure!(guest.run(Program::Write, 0x8000)? == Outcome::Halted, "The guest does not go on");
        drop(guest);
        drop(memory);
        assert_hibernates("Refused without the guest")
    })
}

fn assert_hibernates(otherwise: &str) -> Result<()> {
    let chosen = choose_mode();
    ensure!(chosen.is_ok(), "{otherwise}: {chosen:?}");
    Ok(())
}

fn assert_refused(with: &str) -> Result<()> {
    let chosen = choose_mode().map_err(|error| error.raw_os_error());
    ensure!(chosen == Err(Some(EPERM)), "With {with}, the mode can be chosen: {chosen:?}");
    let begun = fs::write("/sys/power/state", "disk").map_err(|error| error.raw_os_error());
    ensure!(begun == Err(Some(EPERM)), "With {with}, hibernation began: {begun:?}");
    Ok(())
}

/// Says how an image would be made, which the kernel allows only where it would make one (kernel/power/hibernate.c).
fn choose_mode() -> io::Result<()> {
    fs::write("/sys/power/disk", "shutdown")
}
