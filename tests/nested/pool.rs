// SPDX-License-Identifier: Apache-2.0
//! The patched kernel with a pool of 1 GiB (`secretmem=1G`), which is absent from the direct map from the start.

use std::fs;

use anyhow::{Context, Result, ensure};
use secretvmm_tests::area::Area;
use secretvmm_tests::holder::Holder;
use secretvmm_tests::host::direct_map::{DirectMap, meminfo_bytes};
use secretvmm_tests::host::jit;
use secretvmm_tests::host::stage2::Stage2;
use secretvmm_tests::secret::{self, HUGE_SIZE, POOL};

use crate::lab::poison::{POISON, frame};
use crate::support::{assert_hidden, assert_preflight_refuses, on_clean_host, own_guest, power_off};

/// Takes root's right to the pool away.
const WITHOUT_RIGHT: [&str; 5] = ["setpriv", "--bounding-set", "-ipc_lock", "--inh-caps", "-ipc_lock"];

#[test]
fn guest_on_the_pool_is_2m_and_leaves_the_direct_map_alone() -> Result<()> {
    on_clean_host(|| {
        jit::keep()?;
        let (before, free) = (DirectMap::now()?, pool_free()?);
        let mut guest = own_guest()?.memory("512M").arguments(["--backing", "secret,pool=boot"]).start()?;
        guest.wait_for_shell()?;
        let info = assert_hidden(&guest)?;
        ensure!(info.pages == 512 * 256 && info.pool == info.pages, "Not all from the pool: {info:?}");
        ensure!(free - pool_free()? == 512 << 20, "The pool does not count what it gave");
        let stage2 = Stage2::of_process(guest.pid())?;
        ensure!(stage2.pages_2m > 0 && stage2.large_permille() >= 995, "Stage 2 is not in 2 MiB entries: {stage2:?}");
        ensure!(DirectMap::now()? == before, "The direct map has changed: {before:?}");
        power_off(&mut guest)?;
        ensure!(pool_free()? == free, "The pool did not get everything back");
        ensure!(DirectMap::now()? == before, "The direct map has changed: {before:?}");
        Ok(())
    })
}

#[test]
fn sigkill_gives_the_pool_everything_back() -> Result<()> {
    on_clean_host(|| {
        let free = pool_free()?;
        let mut guest = own_guest()?.memory("512M").arguments(["--backing", "secret,pool=boot"]).start()?;
        guest.wait_for_shell()?;
        guest.signal(nix::sys::signal::Signal::SIGKILL)?;
        guest.wait(secretvmm_tests::guest::STEP_LIMIT)?;
        ensure!(pool_free()? == free, "The pool did not get everything back");
        Ok(())
    })
}

#[test]
fn guest_larger_than_the_pool_is_refused_with_pool_boot() -> Result<()> {
    let guest = own_guest()?.memory("2G").arguments(["--backing", "secret,pool=boot"]);
    assert_preflight_refuses(&guest, &["pool of secret memory has", "secretmem=SIZE"])
}

#[test]
fn guest_larger_than_the_pool_takes_free_memory_too_with_pool_auto() -> Result<()> {
    on_clean_host(|| {
        let mut guest = own_guest()?.memory("2G").arguments(["--backing", "secret,populate=all"]).start()?;
        guest.wait_for_shell()?;
        let info = assert_hidden(&guest)?;
        ensure!(info.pages == 2048 * 256 && info.pool > 0 && info.pool < info.pages, "Not from both: {info:?}");
        power_off(&mut guest)
    })
}

#[test]
fn pool_boot_without_the_right_is_refused_and_names_it() -> Result<()> {
    on_clean_host(|| {
        let free = pool_free()?;
        let guest = own_guest()?.memory("512M").arguments(["--backing", "secret,pool=boot"]).under(WITHOUT_RIGHT);
        assert_preflight_refuses(&guest, &["CAP_IPC_LOCK", "vm.secretmem_pool_group", "leave pool=boot out"])?;
        ensure!(pool_free()? == free, "The refused guest took something");
        Ok(())
    })
}

#[test]
fn pool_auto_without_the_right_takes_free_memory_only() -> Result<()> {
    on_clean_host(|| {
        let whole = ["--backing", "secret,populate=all"];
        let mut guest = own_guest()?.memory("512M").arguments(whole).under(WITHOUT_RIGHT).start()?;
        guest.wait_for_shell()?;
        let info = assert_hidden(&guest)?;
        ensure!(info.pages == 512 * 256 && info.pool == 0, "Not from free memory: {info:?}");
        power_off(&mut guest)
    })
}

#[test]
fn page_that_fails_takes_its_2m_out_of_the_pool_for_good() -> Result<()> {
    on_clean_host(|| {
        let total = || Ok::<u64, anyhow::Error>(meminfo_bytes("SecretPoolTotal:")?.unwrap_or(0));
        let (all, free, corrupted) = (total()?, pool_free()?, meminfo_bytes("HardwareCorrupted:")?);
        let file = secret::file(POOL, HUGE_SIZE)?;
        let memory = Area::of_file(&file, HUGE_SIZE)?;
        memory.touch();
        let injected = fs::write(POISON, format!("{:#x}", frame(&memory, 0x9000)?));
        ensure!(meminfo_bytes("HardwareCorrupted:")? > corrupted, "INVALID: nothing is corrupted: {injected:?}");
        drop((memory, file));
        let (left, left_free) = (all - total()?, free - pool_free()?);
        ensure!(
            left == HUGE_SIZE as u64 && left_free == left,
            "Of the pool {left} bytes are lost, {left_free} not free"
        );
        Ok(())
    })
}

#[test]
fn pool_group_has_the_right_and_nobody_else() -> Result<()> {
    on_clean_host(|| {
        let _group = PoolGroup::set(4242)?;
        let builder = own_guest()?.memory("512M").arguments(["--backing", "secret,pool=boot"]);
        let outsider = builder.clone().under(WITHOUT_RIGHT);
        assert_preflight_refuses(&outsider, &["CAP_IPC_LOCK", "vm.secretmem_pool_group"])?;

        let member = ["setpriv", "--groups=4242"].into_iter().chain(WITHOUT_RIGHT);
        let mut guest = builder.under(member).start()?;
        guest.wait_for_shell()?;
        let info = assert_hidden(&guest)?;
        ensure!(info.pages == 512 * 256 && info.pool == info.pages, "Not all from the pool: {info:?}");
        power_off(&mut guest)
    })
}

#[test]
fn pool_without_the_right_is_eperm_and_auto_does_without() -> Result<()> {
    on_clean_host(|| {
        let refused = Holder::start_under(&WITHOUT_RIGHT, &["--mib", "4", "--flags", "8"])?;
        ensure!(refused.result == "create EPERM", "Got {}", refused.result);
        let auto = Holder::start_under(&WITHOUT_RIGHT, &["--mib", "4"])?;
        ensure!(auto.result == "held" && auto.pool == 0, "{}, {} pages of the pool", auto.result, auto.pool);
        let _group = PoolGroup::set(4711)?;
        let other = Holder::start_under(&WITHOUT_RIGHT, &["--mib", "4", "--flags", "8"])?;
        ensure!(other.result == "create EPERM", "Another group's: {}", other.result);
        let grouped = [&["setpriv", "--groups=4711"][..], &WITHOUT_RIGHT[1..]].concat();
        let member = Holder::start_under(&grouped, &["--mib", "4", "--flags", "8"])?;
        ensure!(member.result == "held" && member.pool == 1024, "A member of the group: {}", member.result);
        Ok(())
    })
}

#[test]
fn pool_used_up_is_enomem_for_pool_only_and_other_memory_for_auto() -> Result<()> {
    on_clean_host(|| {
        let free = pool_free()?;
        // Not the size that it began with: another test takes something away for good.
        let nearly_all = (free >> 20) - 8;
        let most = Holder::start(&["--mib", &nearly_all.to_string(), "--flags", "8"])?;
        ensure!(most.result == "held" && most.pool == nearly_all * 256, "{}", most.result);
        let more = Holder::start(&["--mib", "16", "--flags", "8"])?;
        ensure!(more.result == "fallocate ENOMEM" && more.pages == 8 * 256, "{}, {}", more.result, more.pages);
        ensure!(pool_free()? == 0, "Not used up");
        let auto = Holder::start(&["--mib", "16"])?;
        ensure!(auto.result == "held" && auto.pool == 0, "{}, {} of the pool", auto.result, auto.pool);
        drop((most, more, auto));
        ensure!(pool_free()? == free, "The pool did not get everything back");
        Ok(())
    })
}

/// The sysctl that names the group with a right to the pool; nobody again when dropped.
struct PoolGroup(());

impl PoolGroup {
    fn set(gid: i32) -> Result<Self> {
        fs::write("/proc/sys/vm/secretmem_pool_group", gid.to_string()).context("Cannot name the pool's group")?;
        Ok(PoolGroup(()))
    }
}

impl Drop for PoolGroup {
    fn drop(&mut self) {
        // A test that needs the right to be nobody's fails if this does.
        let _ = fs::write("/proc/sys/vm/secretmem_pool_group", "-1");
    }
}

/// Bytes that the pool has left.
fn pool_free() -> Result<u64> {
    meminfo_bytes("SecretPoolFree:")?.context("No SecretPoolFree in /proc/meminfo")
}
