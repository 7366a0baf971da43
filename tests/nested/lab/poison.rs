// SPDX-License-Identifier: Apache-2.0
//! Memory that fails, and memory that somebody wants moved: what is secret stays where it is, and what is lost is lost
//! alone.

use std::fs;

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use secretvmm_tests::area::Area;
use secretvmm_tests::bus_error::BusErrorsInterrupt;
use secretvmm_tests::host::direct_map::meminfo_bytes;
use secretvmm_tests::host::fdinfo;
use secretvmm_tests::host::kernel_log::KernelLog;
use secretvmm_tests::host::process::{frame_at, frames_of};
use secretvmm_tests::secret::{self, HUGE_SIZE};
use secretvmm_tests::toy::{Outcome, Program, ToyVm};

use crate::support::on_clean_host;

/// Takes the number of a frame that is to fail.
pub(crate) const POISON: &str = "/sys/kernel/debug/hwpoison/corrupt-pfn";
const PAGE: usize = 4096;
/// The page that fails.
const BAD: usize = 0x9000;
/// A page beside it, in the same page of 2 MiB if there are such.
const GOOD: usize = 0xa000;

#[test]
fn poisoned_page_of_a_guest_with_2m_pages_is_lost_and_its_neighbours_live() -> Result<()> {
    poisoned_page_is_lost(false)
}

#[test]
fn poisoned_page_of_a_guest_with_4k_pages_is_lost_and_its_neighbours_live() -> Result<()> {
    poisoned_page_is_lost(true)
}

#[test]
fn soft_offline_moves_an_ordinary_page_and_no_secret_one() -> Result<()> {
    on_clean_host(|| {
        let ordinary = Area::ordinary(PAGE)?;
        ordinary.touch();
        let before = frame(&ordinary, 0)?;
        ordinary.soft_offline(0).context("INVALID: no page can be taken offline")?;
        ordinary.touch();
        ensure!(frame(&ordinary, 0)? != before, "INVALID: the control was not moved");

        for small in [false, true] {
            let (file, memory) = secret_memory(small)?;
            memory.touch();
            let mut guest = ToyVm::on(&memory)?;
            ensure!(guest.run(Program::Write, GOOD as u64)? == Outcome::Halted, "The guest does not run");
            let before = frames_of(&memory)?;
            let refused = memory.soft_offline(GOOD);
            ensure!(refused == Err(Errno::EFAULT), "Soft offline of a secret page: {refused:?}");
            // What else would move or split pages.
            fs::write("/proc/sys/vm/compact_memory", "1").context("Cannot compact memory")?;
            fs::write("/sys/kernel/debug/split_huge_pages", "1").context("Cannot split huge pages")?;
            memory.touch();
            ensure!(frames_of(&memory)? == before, "Secret pages were moved");
            let info = fdinfo::of_file(&file)?;
            ensure!(info.direct_mapped == 0 && info.pages == 1024, "Not as it was: {info:?}");
            ensure!(info.huge == if small { 0 } else { 1024 }, "Split, or not as wanted: {info:?}");
            ensure!(guest.run(Program::Write, GOOD as u64)? == Outcome::Halted, "The guest does not go on");
        }
        Ok(())
    })
}

fn poisoned_page_is_lost(small: bool) -> Result<()> {
    on_clean_host(|| {
        let (file, memory) = secret_memory(small)?;
        memory.touch();
        let mut guest = ToyVm::on(&memory)?;
        ensure!(guest.run(Program::Write, BAD as u64)? == Outcome::Halted, "INVALID: the page is bad already");
        let before = fdinfo::of_file(&file)?;
        let corrupted = meminfo_bytes("HardwareCorrupted:")?;

        // KVM tells of the page by a SIGBUS, which is not to end this process.
        let _interrupt = BusErrorsInterrupt::new()?;
        // The kernel cannot recover the page, so the call fails; what counts is whether it is poisoned.
        let injected = fs::write(POISON, format!("{:#x}", frame(&memory, BAD)?));
        ensure!(meminfo_bytes("HardwareCorrupted:")? > corrupted, "INVALID: nothing is corrupted: {injected:?}");

        ensure!(guest.run(Program::Write, GOOD as u64)? == Outcome::Halted, "The neighbour is gone");
        let bad = guest.run(Program::Write, BAD as u64)?;
        ensure!(bad == Outcome::Failed(Errno::EINTR), "The guest's write to a poisoned page: {bad:?}");
        ensure!(memory.try_read(BAD) == Err(Errno::EFAULT), "The poisoned page is there");
        ensure!(memory.try_read(GOOD) == Ok(1), "The neighbour's contents are gone");
        let after = fdinfo::of_file(&file)?;
        ensure!(after == before && after.direct_mapped == 0, "The file was {before:?} and is {after:?}");

        let mut log = KernelLog::from_now()?;
        drop(guest);
        drop((memory, file));
        let said = log.messages()?;
        let pages = if small { 1 } else { 512 };
        let lost = format!("secretmem: lost {pages} page(s)");
        ensure!(said.iter().any(|line| line.contains(&lost)), "The kernel does not say {lost:?} but {said:?}");
        ensure!(meminfo_bytes("SecretMem:")? == Some(0), "Secret memory is left");
        Ok(())
    })
}

/// 4 MiB of secret memory.
fn secret_memory(small: bool) -> Result<(fs::File, Area)> {
    let file = secret::file(0, 2 * HUGE_SIZE).context("Cannot create secret memory")?;
    let memory = Area::of_file(&file, 2 * HUGE_SIZE).context("Cannot map it")?;
    if small {
        memory.use_small_pages()?;
    }
    Ok((file, memory))
}

/// The frame of a page that is there.
pub(crate) fn frame(memory: &Area, offset: usize) -> Result<u64> {
    frame_at(std::process::id(), memory.address() + offset as u64)?.context("There is no page")
}
