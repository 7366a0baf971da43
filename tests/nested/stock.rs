// SPDX-License-Identifier: Apache-2.0
//! Debian's kernel without the series: what happens there, and that `secretvmm` says so instead of trying.

use std::process::Stdio;

use anyhow::{Result, ensure};
use nix::errno::Errno;
use secretvmm_tests::toy::{self, Outcome, Ram};

use serde_json::{Value, json};

use crate::devices::vm::Vm;
use crate::lab::jail::{Jail, status};
use crate::support::{Scratch, assert_preflight_refuses, on_clean_host, own_guest, power_off};

#[test]
fn toy_guest_on_secret_memory_fails_with_efault() -> Result<()> {
    on_clean_host(|| {
        ensure!(toy::run(Ram::Anonymous)? == Outcome::Halted, "The control did not run");
        let outcome = toy::run(Ram::Secret)?;
        ensure!(outcome == Outcome::Failed(Errno::EFAULT), "Got {outcome:?} instead of EFAULT");
        Ok(())
    })
}

#[test]
fn secretvmm_without_the_series_refuses_and_names_the_way_out() -> Result<()> {
    on_clean_host(|| assert_preflight_refuses(&own_guest()?, &["KVM_CAP_SECRETMEM", "--backing shared"]))
}

#[test]
fn secretvmm_on_shared_memory_warns_and_boots() -> Result<()> {
    on_clean_host(|| {
        let mut guest = own_guest()?.memory("512M").shared_memory().start()?;
        guest.wait_for_shell()?;
        ensure!(guest.messages.text().contains("secretvmm: warning:"), "No warning: {}", guest.messages.text());
        power_off(&mut guest)
    })
}

#[test]
fn secretvmm_without_the_series_makes_no_token() -> Result<()> {
    on_clean_host(|| {
        let scratch = Scratch::new("key")?;
        let key = scratch.path("key.pem").display().to_string();
        let vm = Vm::with_arguments("no-token", &["--attestation-key", &key])?;
        vm.boots_demo("")?;
        vm.put("/machine-config", &json!({ "vcpu_count": 1, "mem_size_mib": 128, "memory_backend": "shared" }))?;
        vm.action("InstanceStart")?;
        vm.refuses("GET", "/attestation?nonce=0011223344556677", &Value::Null, &["ordinary memory"])
    })
}

/// The lab's kernel has no PID namespaces, so this is tried here, without a guest.
#[test]
fn vmm_in_a_jail_is_the_first_process_of_a_pid_namespace() -> Result<()> {
    on_clean_host(|| {
        let jail = Jail::new("first")?;
        let arguments = ["--daemonize", "--new-pid-ns", "--", "--api-sock", "/run/firecracker.socket"];
        let output = jail.command(&arguments)?.stdin(Stdio::null()).output()?;
        ensure!(output.status.success(), "{output:?}");
        let told: Value = jail.api()?.get("/")?;
        ensure!(told["id"] == "first", "{told}");
        let pid = jail.pid()?;
        ensure!(status(pid, "NSpid")? == format!("{pid} 1"), "{}", status(pid, "NSpid")?);
        jail.end(pid)
    })
}
