// SPDX-License-Identifier: Apache-2.0
//! What clients and operators get wrong: Firecracker's status, a reason, and nothing changed.

use std::fs::{self, File};
use std::os::unix::net::UnixListener;

use anyhow::{Result, ensure};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use secretvmm_tests::artifacts::{GUEST_BZIMAGE, artifact};
use secretvmm_tests::guest::{Ending, GuestBuilder, STEP_LIMIT};
use secretvmm_tests::network::Tap;
use serde_json::{Value, json};

use super::vm::{Vm, empty_file};
use crate::support::{Scratch, assert_preflight_refuses, on_clean_host};

#[test]
fn bodies_that_make_no_sense() -> Result<()> {
    on_clean_host(|| {
        let vm = Vm::new("bodies")?;
        let before = vm.get("/vm/config")?;
        for (path, body) in [
            ("/machine-config", json!({ "vcpu_count": 1, "mem_size_mib": 128, "colour": "red" })),
            ("/machine-config", json!({ "vcpu_count": "one", "mem_size_mib": 128 })),
            ("/machine-config", json!({ "vcpu_count": 0, "mem_size_mib": 128 })),
            ("/machine-config", json!({ "vcpu_count": 33, "mem_size_mib": 128 })),
            ("/machine-config", json!({ "vcpu_count": 1, "mem_size_mib": 0 })),
            ("/machine-config", json!({ "vcpu_count": 1 })),
            ("/machine-config", json!([])),
            ("/boot-source", json!({})),
            ("/actions", json!({ "action_type": "Explode" })),
            ("/drives/a", json!({ "drive_id": "b", "path_on_host": "/dev/null", "is_root_device": false })),
            ("/drives/a", json!({ "drive_id": "a", "is_root_device": false })),
            ("/vsock", json!({ "guest_cid": 2, "uds_path": "/tmp/v.sock" })),
            ("/nowhere", json!({})),
        ] {
            vm.refuses("PUT", path, &body, &[])?;
        }
        for raw in [&b"{"[..], b"", b"\xff\xfe", b"{\"vcpu_count\":1,\"vcpu_count\":2,\"mem_size_mib\":128}"] {
            ensure!(vm.api.request("PUT", "/machine-config", raw.to_vec()).is_err(), "{raw:?} was taken");
        }
        ensure!(vm.api.request("PUT", "/mmds", vec![b' '; 1 << 20]).is_err(), "A body without end was taken");
        ensure!(vm.get("/vm/config")? == before, "Something refused left a trace: {}", vm.get("/vm/config")?);
        Ok(())
    })
}

#[test]
fn what_hidden_memory_rules_out_says_so() -> Result<()> {
    on_clean_host(|| {
        let vm = Vm::new("ruled-out")?;
        let socket = json!({ "drive_id": "d", "socket": "/tmp/vhost.sock", "is_root_device": false });
        vm.refuses("PUT", "/drives/d", &socket, &["memory"])?;
        let balloon = json!({ "amount_mib": 16, "deflate_on_oom": true });
        vm.refuses("PUT", "/balloon", &balloon, &["memory"])?;
        let load =
            json!({ "snapshot_path": "/tmp/s", "mem_backend": { "backend_type": "File", "backend_path": "/tmp/m" } });
        vm.refuses("PUT", "/snapshot/load", &load, &["memory"])?;
        Ok(())
    })
}

#[test]
fn files_devices_and_sockets_that_are_not_what_they_should_be() -> Result<()> {
    on_clean_host(|| {
        let vm = Vm::new("files")?;
        let drive = |path: &std::path::Path| json!({ "drive_id": "d", "path_on_host": path, "is_root_device": false });
        let fifo = vm.scratch.path("fifo");
        mkfifo(&fifo, Mode::S_IRWXU)?;
        vm.refuses("PUT", "/drives/d", &drive(&fifo), &["fifo"])?;
        vm.refuses("PUT", "/drives/d", &drive(&vm.scratch.path("missing")), &["missing"])?;
        vm.refuses("PUT", "/drives/d", &drive("/tmp".as_ref()), &["/tmp"])?;
        vm.refuses("PUT", "/boot-source", &json!({ "kernel_image_path": "/missing" }), &["/missing"])?;

        let long = json!({ "guest_cid": 3, "uds_path": format!("/tmp/{}", "x".repeat(200)) });
        refused_at_the_latest_at_start(&vm, "/vsock", &long, "107 are possible")?;
        let taken = vm.scratch.path("taken.sock");
        let _holder = UnixListener::bind(&taken)?;
        refused_at_the_latest_at_start(&vm, "/vsock", &json!({ "guest_cid": 3, "uds_path": taken }), "taken.sock")?;

        // A TAP that another VM has, and a drive that goes away before the start.
        let tap = Tap::new("tap-busy", "172.18.0.1/24")?;
        let mut other = Vm::new("other")?;
        let interface = json!({ "iface_id": "eth0", "host_dev_name": tap.name });
        other.boots_demo("")?;
        other.put("/network-interfaces/eth0", &interface)?;
        other.start_to_shell()?;
        refused_at_the_latest_at_start(&vm, "/network-interfaces/eth0", &interface, "tap-busy")?;
        drop(other);

        let vm = Vm::new("files-2")?;
        vm.boots_demo("")?;
        let gone = empty_file(&vm.scratch, "gone", 1 << 20)?;
        vm.put("/drives/d", &drive(&gone))?;
        fs::remove_file(&gone)?;
        // Opened when it was named, or missed at the start: both are right, a crash is not.
        let started = vm.action("InstanceStart");
        ensure!(started.is_ok() || vm.state()? == "Not started", "Neither started nor as before");
        Ok(())
    })
}

#[test]
fn a_disk_that_is_cut_while_the_guest_reads_it_is_an_error_for_the_guest() -> Result<()> {
    on_clean_host(|| {
        let mut vm = Vm::new("cut")?;
        let disk = empty_file(&vm.scratch, "disk", 4 << 20)?;
        vm.boots_demo("")?;
        vm.drive("d", &disk, &json!({}))?;
        vm.start_to_shell()?;
        File::options().write(true).open(&disk)?.set_len(1 << 20)?;
        let said = vm.guest.shell("dd if=/dev/vda bs=1M skip=3 of=/dev/null 2>/dev/null || echo failed")?;
        ensure!(said.ends_with("failed"), "The guest read what is not there: {said}");
        vm.power_off()
    })
}

#[test]
fn sockets_of_the_api_that_cannot_be() -> Result<()> {
    on_clean_host(|| {
        let scratch = Scratch::new("api-sockets")?;
        let long = scratch.path(&"x".repeat(200));
        assert_preflight_refuses(&GuestBuilder::api(&long), &["socket", "shorter"])?;
        let file = scratch.file("file", b"not a socket")?;
        assert_preflight_refuses(&GuestBuilder::api(&file), &["file"])?;
        ensure!(fs::read(&file)? == b"not a socket", "The file is gone");
        let vm = Vm::new("first")?;
        assert_preflight_refuses(&GuestBuilder::api(&vm.scratch.path("api.sock")), &["api.sock"])?;
        vm.get("/version")?;

        // A socket that nobody listens at any more is not in the way.
        let stale = scratch.path("stale.sock");
        drop(UnixListener::bind(&stale)?);
        let guest = GuestBuilder::api(&stale).start()?;
        Vm::of(guest, scratch, &stale)?.get("/version").map(drop)
    })
}

#[test]
fn configuration_files_that_make_no_sense() -> Result<()> {
    on_clean_host(|| {
        let scratch = Scratch::new("configurations")?;
        let kernel = artifact(GUEST_BZIMAGE)?;
        let source = json!({ "kernel_image_path": kernel });
        let disk = empty_file(&scratch, "disk", 1 << 20)?;
        let drive = json!({ "drive_id": "d", "path_on_host": disk, "is_root_device": true });
        for (config, says) in [
            (json!({ "boot-source": source, "colour": "red" }), "colour"),
            (json!({ "boot-source": source, "drives": [drive, drive] }), "d"),
            (json!({ "drives": [drive] }), "boot source"),
            (json!({ "boot-source": source, "vsock": { "guest_cid": 0, "uds_path": "/tmp/v" } }), "0"),
        ] {
            let file = scratch.file("config.json", config.to_string().as_bytes())?;
            let mut guest = GuestBuilder::from_file(&file).start()?;
            let (ending, messages) = (guest.wait(STEP_LIMIT)?, guest.all_messages());
            // 2 for what is no configuration, 3 for one that cannot be had.
            ensure!(matches!(ending, Ending::Code(2 | 3)), "{config} ended with {ending:?}: {messages}");
            ensure!(messages.lines().count() == 1 && messages.contains(says), "{config}: {messages}");
        }
        Ok(())
    })
}

/// What a resource holds may be looked at when it is put or when the VM starts; either way the reason is said.
fn refused_at_the_latest_at_start(vm: &Vm, path: &str, body: &Value, says: &str) -> Result<()> {
    if vm.api.put(path, body).is_err() {
        return vm.refuses("PUT", path, body, &[says]);
    }
    vm.boots_demo("")?;
    vm.refuses("PUT", "/actions", &json!({ "action_type": "InstanceStart" }), &[says])?;
    ensure!(vm.state()? == "Not started", "A start that was refused left the VM {}", vm.state()?);
    Ok(())
}
