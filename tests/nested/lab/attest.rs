// SPDX-License-Identifier: Apache-2.0
//! Tokens: what a verifier far away makes of a hidden guest, and of what is none.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use secretvmm_evidence::{Digest, PrivateKey};
use secretvmm_tests::artifacts::{GUEST_BZIMAGE, REFERENCE_VALUES, artifact};
use secretvmm_tests::host::process::mappings;
use serde_json::{Value, json};

use crate::devices::vm::Vm;
use crate::support::{Scratch, on_clean_host, program};

const NONCE: &str = "00112233445566778899aabbccddeeff";
const OTHER_NONCE: &str = "ff112233445566778899aabbccddeeff";

#[test]
fn token_of_a_hidden_guest_meets_the_right_policy_and_no_other() -> Result<()> {
    on_clean_host(|| {
        let scratch = Scratch::new("attest-files")?;
        let mut vm = attesting(&scratch, "attest", "secret")?;
        refuses_token(&vm, NONCE, "before starting")?;
        vm.start_to_shell()?;
        refuses_token(&vm, "0011", "nonce")?;

        let verifier = Verifier::new(&scratch, &vm)?;
        let good = policy(&vm)?;
        let said = verifier.accepts(&good)?;
        ensure!(said["ear.status"] == "affirming", "{said}");
        verifier.refuses(&good, OTHER_NONCE, "token: nonce")?;
        let with = |pointer: &str, value: Value| -> Result<Value> {
            let mut policy = good.clone();
            *policy.pointer_mut(pointer).with_context(|| format!("No {pointer}"))? = value;
            Ok(policy)
        };
        let said = verifier.accepts(&with("/vm/kernel", "reference".into())?)?;
        ensure!(reason(&said, "vm", "kernel").contains(GUEST_BZIMAGE), "Another kernel: {said:#}");
        ensure!(reason(&said, "mem", "direct-mapped").starts_with("0 pages"), "Not hidden: {said:#}");
        // The lab is no host for secrets: anybody can read its /dev/mem.
        verifier.refuses(&with("/host/strict_devmem", (!strict_devmem()).into())?, NONCE, "host: strict-devmem")?;
        verifier.refuses(&with("/host/kexec", json!(["absent"]))?, NONCE, "host: kexec")?;
        verifier.refuses(&with("/vm/kernel", json!([Digest::of(b"")]))?, NONCE, "vm: kernel")?;
        // How many there are is for the guest's clock to say, and for the token how many there were.
        let none = with("/mem/max_aliases", 0.into())?;
        match reason(&said, "mem", "aliases").starts_with("0 pages") {
            true => drop(verifier.accepts(&none)?),
            false => verifier.refuses(&none, NONCE, "mem: aliases")?,
        }
        let mut token = fs::read(&verifier.token)?;
        token[300] ^= 1;
        fs::write(&verifier.token, token)?;
        verifier.refuses(&good, NONCE, "token: signature")?;
        // It has signed. The control: this test's own memory, which has the key, and the path of the socket there.
        let key = PrivateKey::from_pem(&fs::read_to_string(scratch.path("key.pem"))?)?.to_seed();
        let socket = vm.scratch.path("api.sock");
        ensure!(
            holds(std::process::id(), &key[..])? && holds(vm.guest.pid(), socket.as_os_str().as_bytes())?,
            "INVALID"
        );
        ensure!(!holds(vm.guest.pid(), &key[..])?, "The attestation key is in the VMM's ordinary memory");
        vm.power_off()
    })
}

/// Whether a process has these bytes anywhere in memory that root can read.
fn holds(pid: u32, bytes: &[u8]) -> Result<bool> {
    let memory = fs::File::open(format!("/proc/{pid}/mem"))?;
    let mappings = mappings(pid)?;
    Ok(mappings.iter().filter(|mapping| mapping.permissions.starts_with('r')).any(|mapping| {
        let mut found = vec![0; usize::try_from(mapping.end - mapping.start).unwrap_or(0)];
        // Guest RAM, secret memory and the kernel's own pages refuse.
        let read = memory.read_at(&mut found, mapping.start).unwrap_or(0);
        memchr::memmem::find(&found[..read], bytes).is_some()
    }))
}

#[test]
fn token_of_an_ordinary_guest_is_not_made() -> Result<()> {
    on_clean_host(|| {
        let scratch = Scratch::new("attest-files")?;
        let vm = attesting(&scratch, "attest-shared", "shared")?;
        vm.action("InstanceStart")?;
        refuses_token(&vm, NONCE, "ordinary memory")?;
        let mut attest = Command::new(program("secretvmm")?);
        attest.args(["attest", "--nonce", NONCE, "--api-sock"]).arg(vm.scratch.path("api.sock"));
        let output = attest.arg("--output").arg(scratch.path("token")).output()?;
        ensure!(output.status.code() == Some(1) && !scratch.path("token").exists(), "{output:?}");
        Ok(())
    })
}

/// A VMM with a key that is about to be made, and the demo guest, which is not started.
fn attesting(scratch: &Scratch, name: &str, memory: &str) -> Result<Vm> {
    let key = scratch.path("key.pem").display().to_string();
    let vm = Vm::with_arguments(name, &["--attestation-key", &key])?;
    vm.boots_demo("")?;
    vm.put("/machine-config", &json!({ "vcpu_count": 1, "mem_size_mib": 128, "memory_backend": memory }))?;
    Ok(vm)
}

fn refuses_token(vm: &Vm, nonce: &str, says: &str) -> Result<()> {
    vm.refuses("GET", &format!("/attestation?nonce={nonce}"), &Value::Null, &[says])
}

/// Of the kernels with this suite only the debug host's has it (kernel-patches/config/debug.config).
fn strict_devmem() -> bool {
    std::env::var("SECRETVMM_HOST_CONFIG").is_ok_and(|config| config == "debug")
}

/// What is true of this host and this guest, told by others than the VMM wherever there are others.
fn policy(vm: &Vm) -> Result<Value> {
    let mut config = vm.get("/vm/config")?;
    let cmdline = config["boot-source"]["boot_args"].as_str().context("No command line")?.to_owned();
    for of_the_process in ["logger", "metrics"] {
        config.as_object_mut().context("No configuration")?.remove(of_the_process);
    }
    let host_cmdline = fs::read_to_string("/proc/cmdline")?;
    Ok(json!({
        "max_age_s": 600,
        "reference_values": artifact(REFERENCE_VALUES)?,
        "host": {
            "build_id": "reference", "cmdline": [Digest::of(host_cmdline.trim_end().as_bytes())], "secretmem": 0x6b,
            "strict_devmem": strict_devmem(), "lockdown": "none", "kexec": ["possible"], "swap": false, "ksm": false, "yama": 0,
        },
        "vm": {
            "kernel": [kernel_digest(&fs::read(artifact(GUEST_BZIMAGE)?)?)?], "initrd": "none",
            "cmdline": [Digest::of(cmdline.as_bytes())], "config": [Digest::of(config.to_string().as_bytes())],
            "vmm": "reference", "sandbox": ["seccomp", "landlock", "capabilities", "core"],
        },
        "mem": { "max_aliases": 8 },
    }))
}

/// Why a verifier has said what it has said of a claim.
fn reason<'a>(said: &'a Value, part: &str, claim: &str) -> &'a str {
    let mut claims = said["submods"][part]["claims"].as_array().into_iter().flatten();
    claims.find(|found| found["claim"] == claim).and_then(|found| found["reason"].as_str()).unwrap_or_default()
}

/// The digest of a bzImage as docs/attestation.md has it, by another program than the VMM.
fn kernel_digest(image: &[u8]) -> Result<Digest> {
    let field = |at: usize| -> Result<u64> { Ok(u64::from_le_bytes(image[at..at + 8].try_into()?)) };
    let (payload, address) = ((usize::from(image[0x1f1]) + 1) * 512, field(0x258)?);
    let mut all = Vec::new();
    for (address, bytes) in [(0x71f1, &image[0x1f1..0x26c]), (address, &image[payload..])] {
        all.extend(u64::to_le_bytes(address));
        all.extend((bytes.len() as u64).to_le_bytes());
        all.extend(bytes);
    }
    all.extend((address + 0x200).to_le_bytes());
    Ok(Digest::of(&all))
}

/// What a verifier has: a token, a public key, and a program.
struct Verifier {
    token: PathBuf,
    key: PathBuf,
    policy: PathBuf,
}

impl Verifier {
    /// Asks for a token with [`NONCE`].
    fn new(scratch: &Scratch, vm: &Vm) -> Result<Self> {
        let secretvmm = program("secretvmm")?;
        let token = scratch.path("token");
        let mut attest = Command::new(&secretvmm);
        attest.args(["attest", "--nonce", NONCE, "--api-sock"]).arg(vm.scratch.path("api.sock"));
        let output = attest.arg("--output").arg(&token).output()?;
        ensure!(output.status.success(), "{output:?}");
        let key = Command::new(&secretvmm).arg("public-key").arg(scratch.path("key.pem")).output()?;
        ensure!(key.status.success(), "{key:?}");
        let key = scratch.file("public.pem", &key.stdout)?;
        Ok(Self { token, key, policy: scratch.path("policy.json") })
    }

    fn run(&self, policy: &Value, nonce: &str) -> Result<Output> {
        fs::write(&self.policy, policy.to_string())?;
        let mut command = Command::new(program("secretvmm-verify")?);
        command.arg("--policy").arg(&self.policy).args(["--nonce", nonce]).arg("--key").arg(&self.key).arg(&self.token);
        command.output().context("Cannot run secretvmm-verify")
    }

    fn accepts(&self, policy: &Value) -> Result<Value> {
        let output = self.run(policy, NONCE)?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.code() == Some(0) && said.is_empty(), "Refused: {said}");
        serde_json::from_slice(&output.stdout).context("Not JSON")
    }

    /// Refuses for one reason alone.
    fn refuses(&self, policy: &Value, nonce: &str, reason: &str) -> Result<()> {
        let output = self.run(policy, nonce)?;
        let said = String::from_utf8_lossy(&output.stderr);
        let expected = said.lines().count() == 1 && said.contains(&format!("refused: {reason}"));
        ensure!(output.status.code() == Some(1) && expected, "Not refused for {reason}: {output:?}");
        Ok(())
    }
}
