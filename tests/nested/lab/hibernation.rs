//! An image of all memory, as hibernation makes it, would have the guest in it. The host has no pool here: with one, the
//! kernel never makes an image.

use std::fs;
use std::io;

use anyhow::{Result, ensure};

use crate::support::{on_clean_host, own_guest, power_off};

/// errno of a refusal (EPERM).
const EPERM: i32 = 1;

#[test]
fn image_of_memory_is_refused_as_long_as_a_guest_is_hidden() -> Result<()> {
    on_clean_host(|| {
        ensure!(choose_mode().is_ok(), "INVALID: this host would not hibernate anyway: {:?}", choose_mode());
        let mut guest = own_guest()?.memory("128M").start()?;
        guest.wait_for_shell()?;
        let chosen = choose_mode().map_err(|error| error.raw_os_error());
        ensure!(chosen == Err(Some(EPERM)), "With a hidden guest, the mode can be chosen: {chosen:?}");
        let begun = fs::write("/sys/power/state", "disk").map_err(|error| error.raw_os_error());
        ensure!(begun == Err(Some(EPERM)), "With a hidden guest, hibernation began: {begun:?}");
        power_off(&mut guest)?;
        ensure!(choose_mode().is_ok(), "Without a guest, hibernation is still refused");
        Ok(())
    })
}

/// Says how an image would be made, which the kernel allows only where it would make one (kernel/power/hibernate.c).
fn choose_mode() -> io::Result<()> {
    fs::write("/sys/power/disk", "shutdown")
}
