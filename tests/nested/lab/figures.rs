// SPDX-License-Identifier: Apache-2.0
//! Figures of the main job, printed and not judged: times in a nested, emulated host compare only within one run.

use std::fs;

use anyhow::{Context, Result};
use secretvmm_tests::guest::{BOOT_LIMIT, FIRST_LINE, GuestBuilder};
use secretvmm_tests::report::figure;

use crate::support::{on_clean_host, own_guest};

/// Mappings at least this large and shared are guest RAM, KiB.
const GUEST_RAM_KIB: u64 = 16 << 10;

#[test]
fn start_time_and_own_memory_are_printed() -> Result<()> {
    on_clean_host(|| {
        let guest = own_guest()?.default_cmdline().memory("128M");
        measure("secret memory", &guest)?;
        measure("shared memory", &guest.shared_memory())
    })
}

fn measure(label: &str, builder: &GuestBuilder) -> Result<()> {
    let mut guest = builder.start()?;
    guest.expect(FIRST_LINE, BOOT_LIMIT)?;
    let elapsed = guest.started.elapsed().as_millis();
    figure(&format!("start to first user-space line ({label}, 1 vCPU, 128 MiB)"), elapsed, "ms");
    guest.wait_for_shell()?;
    figure(&format!("VMM's own memory, PSS less guest RAM ({label})"), own_pss_kib(guest.pid())?, "KiB");
    Ok(())
}

/// Proportional set size of everything but guest RAM, KiB.
fn own_pss_kib(pid: u32) -> Result<u64> {
    let smaps = fs::read_to_string(format!("/proc/{pid}/smaps")).context("Cannot read smaps")?;
    let mut own = 0;
    let mut size = 0;
    for line in smaps.lines() {
        let mut words = line.split_ascii_whitespace();
        let key = words.next().unwrap_or_default();
        let value = words.next().and_then(|word| word.parse::<u64>().ok());
        match (key, value) {
            ("Size:", Some(kib)) => size = kib,
            ("Pss:", Some(kib)) if size < GUEST_RAM_KIB => own += kib,
            _ => {}
        }
    }
    Ok(own)
}
