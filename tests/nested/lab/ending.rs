// SPDX-License-Identifier: Apache-2.0
//! Every way in which a VM ends: its exit code, and what the host has back afterwards.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use secretvmm_tests::guest::{BOOT_LIMIT, Ending, STEP_LIMIT};
use secretvmm_tests::host::direct_map::meminfo_bytes;
use secretvmm_tests::host::page_tables::direct_mapped_bytes;
use secretvmm_tests::host::process::PAGE_SIZE;

use crate::support::{assert_hidden, on_clean_host, own_guest, power_off};

/// How far free memory may differ before and after for reasons of the host's own, in KiB.
const FREE_TOLERANCE_KIB: u64 = 16 << 10;

#[test]
fn guest_powers_off_code_0() -> Result<()> {
    ends_with("poweroff", Ending::Code(0))
}

#[test]
fn guest_reboots_code_0() -> Result<()> {
    ends_with("reboot", Ending::Code(0))
}

#[test]
fn guest_triple_faults_code_4() -> Result<()> {
    ends_with("triplefault", Ending::Code(4))
}

#[test]
fn guest_panics_code_5() -> Result<()> {
    ends_with("panic", Ending::Code(5))
}

#[test]
fn power_off_gives_everything_back() -> Result<()> {
    gives_back(None, Ending::Code(0))
}

#[test]
fn sigterm_code_143_gives_everything_back() -> Result<()> {
    gives_back(Some(Signal::SIGTERM), Ending::Code(143))
}

#[test]
fn sigint_code_130_gives_everything_back() -> Result<()> {
    gives_back(Some(Signal::SIGINT), Ending::Code(130))
}

#[test]
fn sigkill_gives_everything_back() -> Result<()> {
    gives_back(Some(Signal::SIGKILL), Ending::Signal(9))
}

#[test]
fn sigkill_before_the_guest_is_up_gives_everything_back() -> Result<()> {
    on_clean_host(|| {
        let before = direct_mapped_bytes()?;
        for milliseconds in [1, 5, 20, 60, 150, 400, 900, 1600] {
            let mut guest = own_guest()?.memory("512M").cpus(2).start()?;
            sleep(Duration::from_millis(milliseconds));
            guest.signal(Signal::SIGKILL)?;
            guest.wait(STEP_LIMIT)?;
        }
        assert_direct_map_restored(before)
    })
}

fn ends_with(action: &str, expected: Ending) -> Result<()> {
    on_clean_host(|| {
        let mut guest = own_guest()?.memory("512M").cpus(2).parameters(&format!("secretvmm.exec={action}")).start()?;
        let ending = guest.wait(BOOT_LIMIT)?;
        ensure!(
            ending == expected,
            "{action} ended with {ending:?} instead of {expected:?}: {}\n{}",
            guest.all_messages(),
            guest.console.text(),
        );
        Ok(())
    })
}

/// Ends a running guest (by its own power-off when there is no signal) and compares the host before and after.
fn gives_back(signal: Option<Signal>, expected: Ending) -> Result<()> {
    on_clean_host(|| {
        let mapped_before = direct_mapped_bytes()?;
        let free_before = free_kib()?;

        let mut guest = own_guest()?.memory("512M").cpus(2).start()?;
        guest.wait_for_shell()?;
        let hidden = assert_hidden(&guest)?.pages * PAGE_SIZE;
        let mapped_during = direct_mapped_bytes()?;
        ensure!(
            mapped_during + hidden <= mapped_before,
            "The direct map went from {mapped_before:#x} to {mapped_during:#x} bytes with {hidden:#x} hidden"
        );

        match signal {
            Some(signal) => {
                guest.signal(signal)?;
                let ending = guest.wait(STEP_LIMIT)?;
                ensure!(ending == expected, "{signal} ended it with {ending:?}: {}", guest.all_messages());
            }
            None => power_off(&mut guest)?,
        }
        drop(guest);

        assert_direct_map_restored(mapped_before)?;
        let free_after = free_kib()?;
        ensure!(
            free_after + FREE_TOLERANCE_KIB >= free_before,
            "Free memory went from {free_before} to {free_after} KiB; the guest had {} KiB",
            hidden >> 10,
        );
        Ok(())
    })
}

fn assert_direct_map_restored(before: u64) -> Result<()> {
    let after = direct_mapped_bytes()?;
    ensure!(after == before, "The direct map had {before:#x} bytes and has {after:#x} now");
    Ok(())
}

/// Free memory with the page cache dropped, so that files read meanwhile do not count. The lists that each CPU keeps of
/// free pages do: MemFree leaves them out, and a few pages of 2 MiB in there are a lot.
fn free_kib() -> Result<u64> {
    nix::unistd::sync();
    fs::write("/proc/sys/vm/drop_caches", "3").context("Cannot drop the caches")?;
    let free = meminfo_bytes("MemFree:")?.context("No MemFree in /proc/meminfo")?;
    let zones = fs::read_to_string("/proc/zoneinfo").context("Cannot read /proc/zoneinfo")?;
    let counts = zones.lines().filter_map(|line| line.trim().strip_prefix("count:"));
    let kept = counts.map(|count| count.trim().parse::<u64>()).sum::<Result<u64, _>>()?;
    Ok((free + kept * PAGE_SIZE) >> 10)
}
