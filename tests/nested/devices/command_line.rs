// SPDX-License-Identifier: Apache-2.0
//! Devices from the quick line and from a configuration file.

use anyhow::{Result, ensure};
use secretvmm_tests::artifacts::{GUEST_BZIMAGE, artifact};
use secretvmm_tests::guest::{CMDLINE, GuestBuilder};
use secretvmm_tests::network::Tap;
use serde_json::json;

use super::vm::{Vm, empty_file};
use crate::support::{Scratch, assert_hidden, on_clean_host, own_guest, power_off};

#[test]
fn quick_line_has_every_device_and_the_api() -> Result<()> {
    on_clean_host(|| {
        let scratch = Scratch::new("quick")?;
        let tap = Tap::new("tap-quick", "172.19.0.1/24")?;
        let (first, second) = (empty_file(&scratch, "first", 1 << 20)?, empty_file(&scratch, "second", 2 << 20)?);
        let socket = scratch.path("api.sock");
        let words = [
            format!("--disk={}", first.display()),
            format!("--disk={},ro", second.display()),
            format!("--net=tap={},mac=06:00:00:00:00:07", tap.name),
            format!("--vsock=cid=7,uds={}", scratch.path("v.sock").display()),
            "--rng".to_owned(),
            format!("--api-sock={}", socket.display()),
        ];
        let guest = own_guest()?.memory("256M").arguments(words).start()?;
        let mut vm = Vm::of(guest, scratch, &socket)?;
        vm.guest.wait_for_shell()?;
        let said = vm.guest.shell(
            "cat /sys/block/vda/size /sys/block/vdb/size /sys/block/vdb/ro /sys/class/net/eth0/address \
             /sys/class/misc/hw_random/rng_current; ls /dev/vsock",
        )?;
        let lines: Vec<&str> = said.lines().collect();
        let expected = ["2048", "4096", "1", "06:00:00:00:00:07", "virtio_rng.0", "/dev/vsock"];
        ensure!(lines == expected, "The guest has: {said}");
        ensure!(vm.state()? == "Running", "{}", vm.state()?);
        vm.power_off()
    })
}

#[test]
fn configuration_file_has_every_device_and_needs_no_api() -> Result<()> {
    on_clean_host(|| {
        let scratch = Scratch::new("whole-config")?;
        let tap = Tap::new("tap-config", "172.20.0.1/24")?;
        let disk = empty_file(&scratch, "disk", 1 << 20)?;
        let config = json!({
            "boot-source": {
                "kernel_image_path": artifact(GUEST_BZIMAGE)?,
                "boot_args": format!("{CMDLINE} quiet"),
            },
            "machine-config": { "vcpu_count": 2, "mem_size_mib": 256, "smt": false, "track_dirty_pages": false },
            "drives": [{ "drive_id": "data", "path_on_host": disk, "is_root_device": false, "is_read_only": true }],
            "network-interfaces": [{ "iface_id": "eth0", "host_dev_name": tap.name, "guest_mac": "06:00:00:00:00:08" }],
            "vsock": { "guest_cid": 8, "uds_path": scratch.path("v.sock") },
            "entropy": {},
            "logger": { "log_path": scratch.file("log", b"")?, "level": "Info" },
            "metrics": { "metrics_path": scratch.file("metrics", b"")? },
            "mmds-config": { "network_interfaces": ["eth0"], "version": "V1" },
        });
        let file = scratch.file("config.json", config.to_string().as_bytes())?;
        let mut guest = GuestBuilder::from_file(&file).arguments(["--no-api"]).start()?;
        guest.wait_for_shell()?;
        let said =
            guest.shell("nproc; cat /sys/block/vda/ro /sys/class/net/eth0/address; ls -1 /dev/vsock /dev/hwrng")?;
        ensure!(said == "2\n1\n06:00:00:00:00:08\n/dev/hwrng\n/dev/vsock", "The guest has: {said}");
        assert_hidden(&guest)?;
        power_off(&mut guest)
    })
}
