// SPDX-License-Identifier: Apache-2.0
//! Guest RAM comes in 2 MiB pages, for stage 2 too, and leaves the direct map as it was.

use anyhow::{Context, Result, ensure};
use secretvmm_tests::area::Area;
use secretvmm_tests::host::direct_map::DirectMap;
use secretvmm_tests::host::fdinfo;
use secretvmm_tests::host::jit;
use secretvmm_tests::host::process::frames_of;
use secretvmm_tests::host::stage2::Stage2;
use secretvmm_tests::host::witness::Witness;
use secretvmm_tests::secret::{self, HUGE_SIZE};

use crate::support::{assert_hidden, on_clean_host, own_guest, power_off};

/// Writes to nearly all of a 512 MiB guest's memory.
const FILL: &str = "mount -o remount,size=90% /tmp 2>/dev/null || mount -t tmpfs -o size=90% tmpfs /tmp; \
                    dd if=/dev/zero of=/tmp/fill bs=1M count=400 2>/dev/null; ls -l /tmp/fill";

#[test]
fn guest_ram_is_2m_in_the_file_and_in_stage_2_and_splits_nothing() -> Result<()> {
    on_clean_host(|| {
        jit::keep()?;
        let before = DirectMap::now()?;
        let mut guest = own_guest()?.memory("512M").arguments(["--backing", "secret,huge=require"]).start()?;
        guest.wait_for_shell()?;
        ensure!(guest.shell(FILL)?.contains("419430400"), "The guest could not fill its memory");
        let info = assert_hidden(&guest)?;
        ensure!(info.pages == 512 * 256 && info.huge == info.pages, "Not all in 2 MiB pages: {info:?}");
        let stage2 = Stage2::of_process(guest.pid())?;
        ensure!(stage2.large_permille() >= 995, "Stage 2 is not in 2 MiB entries: {stage2:?}");
        ensure!(stage2.pages_2m >= 200, "The guest has not touched its memory: {stage2:?}");
        let during = DirectMap::now()?;
        power_off(&mut guest)?;
        assert_not_split(before, during)?;
        let after = DirectMap::now()?;
        println!("figure: direct map before {before:?}, with the guest {during:?}, after {after:?}; {stage2:?}");
        assert_not_split(before, after)
    })
}

/// The control: the same figures do see 4 KiB pages.
#[test]
fn guest_ram_with_huge_off_is_4k_and_splits_the_direct_map() -> Result<()> {
    on_clean_host(|| {
        jit::keep()?;
        let before = DirectMap::now()?;
        let mut guest = own_guest()?.memory("128M").arguments(["--backing", "secret,huge=off"]).start()?;
        guest.wait_for_shell()?;
        let info = assert_hidden(&guest)?;
        ensure!(info.huge == 0 && info.pages < 128 * 256, "Populated, or in 2 MiB pages: {info:?}");
        let stage2 = Stage2::of_process(guest.pid())?;
        ensure!(stage2.pages_2m == 0 && stage2.pages_4k > 0, "Not in 4 KiB entries: {stage2:?}");
        let during = DirectMap::now()?;
        ensure!(during.splits_2m > before.splits_2m, "No split was counted: {before:?}, {during:?}");
        power_off(&mut guest)
    })
}

/// What is counted is what the kernel's page tables say, not what secretmem believes to have done.
#[test]
fn page_put_back_into_the_direct_map_is_counted() -> Result<()> {
    on_clean_host(|| {
        let witness = Witness::load()?;
        let file = secret::file(0, HUGE_SIZE)?;
        let memory = Area::of_file(&file, HUGE_SIZE)?;
        memory.use_small_pages()?;
        memory.touch();
        let frame = *frames_of(&memory)?.first().context("There is no page")?;
        let counted = || -> Result<u64> { Ok(fdinfo::of_file(&file)?.direct_mapped) };
        ensure!(counted()? == 0, "{} pages are in the direct map already", counted()?);
        let wound = witness.wound("direct", frame)?;
        ensure!(counted()? == 1, "One page is in the direct map, {} are counted", counted()?);
        drop(wound);
        ensure!(counted()? == 0, "{} pages are in the direct map still", counted()?);
        Ok(())
    })
}

/// A 1 GiB entry may be split once for the guest and once for the kernel's own use beside it.
fn assert_not_split(before: DirectMap, now: DirectMap) -> Result<()> {
    ensure!(now.splits_2m == before.splits_2m, "2M entries were split: {before:?}, {now:?}");
    ensure!(now.splits_1g <= before.splits_1g + 2, "1G entries were split: {before:?}, {now:?}");
    ensure!(now.kib_4k == before.kib_4k, "More of the direct map is in 4K entries: {before:?}, {now:?}");
    Ok(())
}
