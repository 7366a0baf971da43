// SPDX-License-Identifier: Apache-2.0
//! The kernel's own selftests, on secret memory.
//!
//! KVM's library takes the source of ordinary guest memory from an environment variable (kernel-patches/README.md).
//! Each test runs on secret memory; one that fails there runs on anonymous memory too, so that the message tells a
//! failure of ours from one of the emulator. One that skips counts as failed, unless [`ALLOWED_SKIPS`] says why it may.

use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use secretvmm_tests::artifacts::artifact;

use crate::support::on_clean_host;

/// What may keep a selftest from running here: its name, and words of the reason it gives, by a skip or, if it fails on
/// anonymous memory in the same way, by an assertion.
const ALLOWED_SKIPS: &[(&str, &str)] = &[
    // QEMU's emulated SVM does not save the next instruction's address.
    ("x86_64/svm_nested_soft_inject_test", "nRIP Save"),
];

/// Seconds until a selftest counts as hanging.
const LIMIT: &str = "120";

/// Exit codes of selftests (tools/testing/selftests/kselftest.h). A signal counts as 128 more, as in a shell.
const PASS: i32 = 0;
const SKIP: i32 = 4;

#[test]
fn set_memory_region() -> Result<()> {
    on_secret_memory("set_memory_region_test", &["3"])
}

#[test]
fn kvm_page_table() -> Result<()> {
    on_secret_memory("kvm_page_table_test", &["-b", "16M"])
}

#[test]
fn kvm_page_table_of_large_pages() -> Result<()> {
    on_secret_memory("kvm_page_table_test", &["-b", "16M", "-s", "secretmem"])
}

#[test]
fn memslot_modification_stress() -> Result<()> {
    on_secret_memory("memslot_modification_stress_test", &["-b", "2M", "-i", "50"])
}

#[test]
fn dirty_log() -> Result<()> {
    on_secret_memory("dirty_log_test", &["-b", "16M", "-i", "3"])
}

#[test]
fn pre_fault_memory() -> Result<()> {
    on_secret_memory("pre_fault_memory_test", &[])
}

#[test]
fn kvm_clock() -> Result<()> {
    on_secret_memory("x86_64/kvm_clock_test", &[])
}

#[test]
fn steal_time() -> Result<()> {
    on_secret_memory("steal_time", &[])
}

#[test]
fn xen_shinfo() -> Result<()> {
    on_secret_memory("x86_64/xen_shinfo_test", &[])
}

#[test]
fn smm() -> Result<()> {
    on_secret_memory("x86_64/smm_test", &[])
}

#[test]
fn state() -> Result<()> {
    on_secret_memory("x86_64/state_test", &[])
}

#[test]
fn hyperv_svm() -> Result<()> {
    on_secret_memory("x86_64/hyperv_svm_test", &[])
}

#[test]
fn svm_vmcall() -> Result<()> {
    on_secret_memory("x86_64/svm_vmcall_test", &[])
}

#[test]
fn svm_int_ctl() -> Result<()> {
    on_secret_memory("x86_64/svm_int_ctl_test", &[])
}

#[test]
fn svm_nested_shutdown() -> Result<()> {
    on_secret_memory("x86_64/svm_nested_shutdown_test", &[])
}

#[test]
fn svm_nested_soft_inject() -> Result<()> {
    on_secret_memory("x86_64/svm_nested_soft_inject_test", &[])
}

#[test]
fn memfd_secret() -> Result<()> {
    on_clean_host(|| {
        let result = run(&mut Command::new(artifact("selftests/mm/memfd_secret")?))?;
        result
            .output
            .lines()
            .filter(|line| line.contains("# SKIP"))
            .try_for_each(|line| skipped("memfd_secret", line))?;
        match result.code {
            PASS => Ok(()),
            SKIP => skipped("memfd_secret", &result.reason()),
            code => bail!("memfd_secret failed with code {code}:\n{}", result.output),
        }
    })
}

/// Runs a selftest of KVM's on secret memory and asserts that it passes and that it had such memory.
fn on_secret_memory(program: &str, arguments: &[&str]) -> Result<()> {
    on_clean_host(|| {
        let secret = run_on("secretmem", program, arguments)?;
        match secret.code {
            PASS => {
                let used = secret.output.contains("guest memory comes from secretmem");
                ensure!(used, "{program} passed, but not on secret memory:\n{}", secret.output);
                Ok(())
            }
            SKIP => skipped(program, &secret.reason()),
            code => {
                let control = run_on("anonymous", program, arguments)?;
                let lacks = (control.code == code).then(|| allowed(program, &control.output)).flatten();
                if let Some(words) = lacks.filter(|words| secret.output.contains(words)) {
                    return skipped(program, words);
                }
                let verdict = match control.code {
                    PASS => "passes on anonymous memory: secret memory is at fault".to_owned(),
                    code => format!("fails on anonymous memory too, with code {code}: secret memory is not at fault"),
                };
                bail!("{program} failed with code {code}; it {verdict}\n{}", secret.output)
            }
        }
    })
}

/// Accepts a skip that is allowed, and says so past libtest's capture.
fn skipped(program: &str, reason: &str) -> Result<()> {
    ensure!(allowed(program, reason).is_some(), "{program} skipped, which no line of ALLOWED_SKIPS allows: {reason}");
    // A closed stdout must not fail a test.
    let _ = writeln!(std::io::stdout(), "SKIPPED: {program}: {reason}");
    Ok(())
}

/// The words in a selftest's output for which it may skip.
fn allowed(program: &str, output: &str) -> Option<&'static str> {
    ALLOWED_SKIPS.iter().find(|(name, words)| *name == program && output.contains(words)).map(|(_, words)| *words)
}

struct Ended {
    code: i32,
    output: String,
}

impl Ended {
    /// The line in which a selftest says why it skips.
    fn reason(&self) -> String {
        let line = self.output.lines().find(|line| line.to_lowercase().contains("skip"));
        line.or(self.output.lines().last()).unwrap_or("no reason given").to_owned()
    }
}

fn run_on(source: &str, program: &str, arguments: &[&str]) -> Result<Ended> {
    let path = artifact(&format!("selftests/kvm/{program}"))?;
    run(Command::new("timeout")
        .args(["-s", "KILL", LIMIT])
        .arg(path)
        .args(arguments)
        .env("KVM_SELFTEST_MEM_SRC", source))
}

fn run(command: &mut Command) -> Result<Ended> {
    let output = command.output().context("Cannot run a selftest")?;
    let signal = output.status.signal().map(|signal| 128 + signal);
    let code = output.status.code().or(signal).context("A selftest ended in no way known")?;
    let text = [output.stdout, output.stderr].concat();
    Ok(Ended { code, output: String::from_utf8_lossy(&text).into_owned() })
}
