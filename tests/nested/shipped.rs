// SPDX-License-Identifier: Apache-2.0
//! The patched kernel as operators configure it: the guest runs hidden, and the kernel offers no way around.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Result, ensure};

use crate::support::{assert_hidden, on_clean_host, own_guest, power_off};

#[test]
fn guest_on_secret_memory_runs_hidden() -> Result<()> {
    on_clean_host(|| {
        let mut guest = own_guest()?.memory("512M").start()?;
        guest.wait_for_shell()?;
        assert_hidden(&guest)?;
        power_off(&mut guest)
    })
}

#[test]
fn kernel_offers_no_view_of_physical_memory() -> Result<()> {
    for path in ["/proc/kcore", "/proc/vmcore", "/sys/kernel/kexec_loaded", "/sys/kernel/debug/page_tables/kernel"] {
        ensure!(!Path::new(path).exists(), "{path} is there");
    }
    if let Ok(disk) = std::fs::read_to_string("/sys/power/disk") {
        ensure!(disk.contains("[disabled]"), "Hibernation is offered: {disk}");
    }
    // Beyond the first megabyte, STRICT_DEVMEM refuses; a kernel without the device is just as good.
    if let Ok(mut memory) = File::open("/dev/mem") {
        std::io::copy(&mut memory.by_ref().take(1 << 20), &mut std::io::sink())?;
        ensure!(memory.read(&mut [0; 4096]).is_err(), "/dev/mem reads ordinary memory");
    }
    Ok(())
}
