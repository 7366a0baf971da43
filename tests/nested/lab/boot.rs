// SPDX-License-Identifier: Apache-2.0
//! Every way to start a guest, on hidden memory.

use anyhow::{Context, Result, ensure};
use secretvmm_tests::artifacts::{GUEST_BZIMAGE, GUEST_VMLINUX, STOCK_CLOUD_VMLINUZ, artifact};
use secretvmm_tests::guest::{BOOT_LIMIT, Ending, Guest, GuestBuilder, STEP_LIMIT};

use crate::support::{Scratch, assert_hidden, initrd_with_init, on_clean_host, own_guest, power_off};

const MIB: u64 = 1 << 20;

#[test]
fn one_vcpu_boots() -> Result<()> {
    boots_with_vcpus(1)
}

#[test]
fn two_vcpus_boot() -> Result<()> {
    boots_with_vcpus(2)
}

#[test]
fn four_vcpus_boot() -> Result<()> {
    boots_with_vcpus(4)
}

#[test]
fn memory_32m_is_all_there() -> Result<()> {
    has_memory("32M", 32 * MIB)
}

#[test]
fn memory_512m_is_all_there() -> Result<()> {
    has_memory("512M", 512 * MIB)
}

#[test]
fn memory_2g_is_all_there() -> Result<()> {
    has_memory("2G", 2048 * MIB)
}

#[test]
fn memory_5g_continues_above_the_hole() -> Result<()> {
    on_clean_host(|| {
        let mut guest = own_guest()?.memory("5G").start()?;
        guest.wait_for_shell()?;
        let ranges = system_ram(&mut guest)?;
        ensure!(total(&ranges) >= 5 * 1024 * MIB - MIB, "The guest sees {ranges:x?}");
        ensure!(ranges.iter().any(|&(start, _)| start == 1 << 32), "No RAM starts at 4 GiB: {ranges:x?}");
        ensure!(
            ranges.iter().all(|&(start, end)| end < 0xfec0_0000 || start >= 1 << 32),
            "RAM lies in the hole: {ranges:x?}"
        );
        assert_hidden(&guest)?;
        power_off(&mut guest)
    })
}

#[test]
fn vmlinux_boots_through_pvh() -> Result<()> {
    on_clean_host(|| {
        let mut guest = GuestBuilder::new(artifact(GUEST_VMLINUX)?).memory("512M").cpus(2).start()?;
        guest.wait_for_shell()?;
        ensure!(guest.shell("nproc")?.ends_with('2'), "The second vCPU is missing");
        assert_hidden(&guest)?;
        power_off(&mut guest)
    })
}

#[test]
fn config_file_describes_the_whole_vm() -> Result<()> {
    on_clean_host(|| {
        let scratch = Scratch::new("config-file")?;
        let initrd = initrd_with_init(
            &scratch,
            "/bin/busybox mount -t devtmpfs none /dev\n/bin/busybox mkdir /proc\n/bin/busybox mount -t proc none /proc\n\
             echo config-file: $(/bin/busybox nproc) CPUs, $(/bin/busybox cat /proc/cmdline)\n\
             exec /bin/busybox poweroff -f",
        )?;
        let config = serde_json::json!({
            "boot-source": {
                "kernel_image_path": artifact(GUEST_BZIMAGE)?,
                "initrd_path": initrd,
                "boot_args": "console=ttyS0 reboot=k panic=-1 own.word",
            },
            "machine-config": { "vcpu_count": 2, "mem_size_mib": 512 },
        });
        let file = scratch.file("vm.json", config.to_string().as_bytes())?;
        let mut guest = GuestBuilder::from_file(&file).start()?;
        let said = guest.console.expect_line("config-file: ", BOOT_LIMIT)?;
        ensure!(said.contains("2 CPUs") && said.contains("own.word"), "Unexpected guest: {said}");
        assert_ended_well(&mut guest)
    })
}

#[test]
fn initrd_replaces_the_init() -> Result<()> {
    on_clean_host(|| {
        let scratch = Scratch::new("initrd")?;
        let initrd = initrd_with_init(&scratch, "echo own-initrd: up\nexec /bin/busybox poweroff -f")?;
        let mut guest = own_guest()?.memory("512M").initrd(&initrd).start()?;
        guest.expect("own-initrd: up", BOOT_LIMIT)?;
        assert_ended_well(&mut guest)
    })
}

#[test]
fn stock_debian_cloud_kernel_reaches_its_initrd() -> Result<()> {
    on_clean_host(|| {
        let scratch = Scratch::new("stock-cloud")?;
        let script = "busybox=/bin/busybox\n$busybox mkdir -p /proc\n$busybox mount -t proc none /proc\n\
                      echo stock-initrd: up on $($busybox uname -r) with $($busybox nproc) CPUs\n\
                      $busybox sleep 1\n$busybox grep -c . /proc/cpuinfo >/dev/null && echo stock-initrd: done\n\
                      exec $busybox poweroff -f";
        let initrd = initrd_with_init(&scratch, script)?;
        let kernel = artifact(STOCK_CLOUD_VMLINUZ)?;
        let mut guest = GuestBuilder::new(kernel).memory("512M").cpus(2).initrd(&initrd).start()?;
        let said = guest.console.expect_line("stock-initrd: up on ", BOOT_LIMIT)?;
        ensure!(said.contains("-cloud-amd64") && said.ends_with("2 CPUs"), "Unexpected guest: {said}");
        assert_hidden(&guest)?;
        guest.expect("stock-initrd: done", STEP_LIMIT)?;
        assert_ended_well(&mut guest)
    })
}

fn boots_with_vcpus(count: u32) -> Result<()> {
    on_clean_host(|| {
        let mut guest = own_guest()?.memory("512M").cpus(count).start()?;
        guest.wait_for_shell()?;
        ensure!(guest.shell("nproc")?.ends_with(&count.to_string()), "Not {count} CPUs: {}", guest.console.text());
        // A guest that trusts its TSC prefers it, but kvm-clock must be there for one that does not.
        let clocks = guest.shell("cat /sys/devices/system/clocksource/clocksource0/available_clocksource")?;
        ensure!(clocks.contains("kvm-clock"), "The guest has no kvm-clock: {clocks}");
        assert_hidden(&guest)?;
        power_off(&mut guest)
    })
}

fn has_memory(size: &str, bytes: u64) -> Result<()> {
    on_clean_host(|| {
        let mut guest = own_guest()?.memory(size).start()?;
        guest.wait_for_shell()?;
        let ranges = system_ram(&mut guest)?;
        // The PC's hole from 640 KiB to 1 MiB is the only RAM a guest does not get.
        ensure!((bytes - MIB..=bytes).contains(&total(&ranges)), "--mem {size} gave {ranges:x?}");
        assert_hidden(&guest)?;
        power_off(&mut guest)
    })
}

/// The ranges of RAM in the guest's `/proc/iomem`, first and last address.
fn system_ram(guest: &mut Guest) -> Result<Vec<(u64, u64)>> {
    let said = guest.shell("grep 'System RAM' /proc/iomem")?;
    let lines = said.lines().filter(|line| line.ends_with("System RAM"));
    lines.map(|line| parse_range(line).with_context(|| format!("Not a range: {line}"))).collect()
}

fn parse_range(line: &str) -> Option<(u64, u64)> {
    let (start, end) = line.split_once(" : ")?.0.trim().split_once('-')?;
    Some((u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?))
}

fn total(ranges: &[(u64, u64)]) -> u64 {
    ranges.iter().map(|(start, end)| end - start + 1).sum()
}

fn assert_ended_well(guest: &mut Guest) -> Result<()> {
    let ending = guest.wait(STEP_LIMIT)?;
    ensure!(ending == Ending::Code(0), "Ended with {ending:?}: {}", guest.all_messages());
    Ok(())
}
