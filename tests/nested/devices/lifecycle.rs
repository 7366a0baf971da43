// SPDX-License-Identifier: Apache-2.0
//! The states of a VM and what is allowed in each; what it tells about itself.

use std::fs;

use anyhow::{Context, Result, ensure};
use secretvmm_tests::guest::STEP_LIMIT;
use serde_json::{Value, json};

use super::vm::{Vm, empty_file};
use crate::support::{assert_hidden, on_clean_host};

#[test]
fn wrong_orders_are_refused_with_the_reason() -> Result<()> {
    on_clean_host(|| {
        let mut vm = Vm::new("orders")?;
        ensure!(vm.state()? == "Not started", "{}", vm.state()?);
        for (method, path, body) in [
            ("PATCH", "/vm", json!({ "state": "Paused" })),
            ("PATCH", "/vm", json!({ "state": "Resumed" })),
            ("PUT", "/actions", json!({ "action_type": "SendCtrlAltDel" })),
            ("PUT", "/actions", json!({ "action_type": "InstanceStart" })),
            ("PATCH", "/drives/x", json!({ "drive_id": "x", "path_on_host": "/dev/zero" })),
        ] {
            vm.refuses(method, path, &body, &[])?;
        }

        let disk = empty_file(&vm.scratch, "disk", 1 << 20)?;
        vm.boots_demo("")?;
        vm.drive("data", &disk, &json!({}))?;
        vm.put("/machine-config", &json!({ "vcpu_count": 2, "mem_size_mib": 256 }))?;
        vm.start_to_shell()?;
        ensure!(vm.state()? == "Running", "{}", vm.state()?);
        ensure!(vm.guest.shell("nproc")? == "2", "Not two CPUs");

        for (path, body) in [
            ("/actions", json!({ "action_type": "InstanceStart" })),
            ("/boot-source", json!({ "kernel_image_path": "/dev/null" })),
            ("/machine-config", json!({ "vcpu_count": 1, "mem_size_mib": 128 })),
            ("/drives/more", json!({ "drive_id": "more", "path_on_host": disk, "is_root_device": false })),
            ("/network-interfaces/n", json!({ "iface_id": "n", "host_dev_name": "tap-none" })),
            ("/vsock", json!({ "guest_cid": 3, "uds_path": vm.scratch.path("v.sock") })),
            ("/entropy", json!({})),
        ] {
            vm.refuses("PUT", path, &body, &["start"])?;
        }

        vm.set_state("Paused")?;
        ensure!(vm.state()? == "Paused", "{}", vm.state()?);
        vm.set_state("Paused")?;
        vm.set_state("Resumed")?;
        vm.set_state("Resumed")?;
        ensure!(vm.guest.shell("echo still here")? == "still here", "It did not go on");
        assert_hidden(&vm.guest)?;
        vm.action("SendPowerButton")?;
        vm.ends_well()
    })
}

#[test]
fn what_a_vm_tells_about_itself() -> Result<()> {
    on_clean_host(|| {
        let mut vm = Vm::with_arguments("tells", &["--id", "tells-1", "--boot-timer"])?;
        let (log, metrics) = (vm.scratch.file("log", b"")?, vm.scratch.file("metrics", b"")?);
        vm.put("/logger", &json!({ "log_path": log, "level": "Debug", "show_level": true }))?;
        vm.put("/metrics", &json!({ "metrics_path": metrics }))?;
        vm.boots_demo("")?;
        vm.put("/machine-config", &json!({ "vcpu_count": 1, "mem_size_mib": 128 }))?;
        vm.start_to_shell()?;

        let info = vm.get("/")?;
        ensure!(info["id"] == "tells-1" && info["app_name"].is_string() && info["vmm_version"].is_string(), "{info}");
        let memory = vm.get("/memory")?;
        ensure!(memory.to_string().contains("secret"), "GET /memory: {memory}");
        vm.refuses("GET", "/attestation?nonce=0011223344556677", &Value::Null, &["--attestation-key"])?;
        let config = vm.get("/vm/config")?;
        ensure!(config["machine-config"]["mem_size_mib"] == 128, "GET /vm/config: {config}");
        ensure!(config["boot-source"]["kernel_image_path"].is_string(), "GET /vm/config: {config}");

        vm.action("FlushMetrics")?;
        let text = fs::read_to_string(&metrics)?;
        let line = text.lines().next_back().context("No metrics")?;
        let sums: Value = serde_json::from_str(line).with_context(|| format!("Not JSON: {line}"))?;
        for group in ["get_api_requests", "put_api_requests", "latencies_us", "vcpu", "memory_protection"] {
            ensure!(sums[group].is_object(), "No {group} among the metrics: {line}");
        }
        ensure!(sums["memory_protection"]["kernel"]["direct_mapped"] == 0, "The kernel maps the guest: {line}");
        vm.guest.signal(nix::sys::signal::Signal::SIGTERM)?;
        let ending = vm.guest.wait(STEP_LIMIT)?;
        ensure!(ending == secretvmm_tests::guest::Ending::Code(143), "Ended with {ending:?}");
        ensure!(!fs::read_to_string(&log)?.is_empty(), "The log is empty");
        Ok(())
    })
}

#[test]
fn two_hundred_clients_and_one_that_says_nothing() -> Result<()> {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    on_clean_host(|| {
        let vm = Vm::new("clients")?;
        let socket = vm.scratch.path("api.sock");
        let silent: Vec<UnixStream> = (0..100).map(|_| UnixStream::connect(&socket)).collect::<Result<_, _>>()?;
        let mut slow = UnixStream::connect(&socket)?;
        slow.write_all(b"PUT /boot-source HTTP/1.1\r\nContent-Length: 100\r\n\r\n{")?;
        for _ in 0..100 {
            vm.get("/")?;
        }
        drop(silent);
        vm.get("/version").map(drop)
    })
}
