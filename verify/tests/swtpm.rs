// SPDX-License-Identifier: Apache-2.0
//! Quotes of a real TPM 2.0 implementation (swtpm), made with tpm2-tools by the commands of docs/attestation.md.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use secretvmm_evidence::{Backing, Claims, Digest, Host, Kexec, Memory, Nonce, PROFILE, PrivateKey, Slot, Vm, cose};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

const NONCE: &str = "00112233445566778899aabbccddeeff";
const PCRS: [u8; 3] = [0, 7, 16];

#[test]
fn quote_of_the_token_is_affirmed_and_no_other() -> Result<()> {
    let tpm = Tpm::start()?;
    tpm.make_key("ak")?;
    tpm.make_key("other")?;
    tpm.extend(16)?;
    tpm.write_token("token", 1)?;
    tpm.write_token("another", 2)?;
    tpm.quote("ak", "token", "quote")?;
    tpm.write_policy(&tpm.values("quote")?)?;
    tpm.accepts("token", "quote")?;

    tpm.refuses("another", "quote", "tpm: token: it is for something else")?;
    tpm.quote("other", "token", "forged")?;
    tpm.refuses("token", "forged", "tpm: signature")?;
    tpm.extend(16)?;
    tpm.quote("ak", "token", "later")?;
    tpm.refuses("token", "later", "tpm: pcrs: 0, 7, 16 have other values")?;
    let none = tpm.verify("token", &[])?;
    ensure!(none.status.code() == Some(1), "Without a quote: {none:?}");
    ensure!(String::from_utf8_lossy(&none.stderr).contains("there is no quote"), "{none:?}");
    Ok(())
}

#[test]
fn quote_that_no_policy_asks_for_is_wrong_usage() -> Result<()> {
    let tpm = Tpm::start()?;
    tpm.write_token("token", 1)?;
    tpm.write("policy.json", json!({ "max_age_s": 60 }).to_string())?;
    let output = tpm.verify("token", &["--quote", "quote", "--quote-signature", "quote.sig"])?;
    ensure!(output.status.code() == Some(2), "{output:?}");
    ensure!(String::from_utf8_lossy(&output.stderr).contains("leave --quote out"), "{output:?}");
    Ok(())
}

/// A TPM in a process of its own, and the files around it.
struct Tpm {
    process: Child,
    dir: tempfile::TempDir,
}

impl Tpm {
    fn start() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let path = |name: &str| dir.path().join(name).display().to_string();
        let mut swtpm = Command::new("swtpm");
        swtpm.args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear"]);
        swtpm.args(["--tpmstate", &format!("dir={}", path(""))]);
        swtpm.args(["--server", &format!("type=unixio,path={}", path("tpm"))]);
        swtpm.args(["--ctrl", &format!("type=unixio,path={}", path("tpm.ctrl"))]);
        // It tells of every tool that comes and goes.
        let process = swtpm.stderr(Stdio::null()).spawn().context("Cannot start swtpm: run `cargo xtask setup`")?;
        let tpm = Tpm { process, dir };
        for _ in 0..200 {
            if tpm.path("tpm").exists() && tpm.path("tpm.ctrl").exists() {
                return Ok(tpm);
            }
            sleep(Duration::from_millis(50));
        }
        bail!("swtpm does not listen")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> Result<()> {
        Ok(fs::write(self.path(name), text)?)
    }

    /// A tool of tpm2-tools; then the TPM's places for keys are free again.
    fn tool(&self, line: &str) -> Result<()> {
        for line in [line, "tpm2_flushcontext -t"] {
            let mut words = line.split(' ');
            let mut tool = Command::new(words.next().context("No tool")?);
            let place = format!("swtpm:path={}", self.path("tpm").display());
            let output = tool.args(words).env("TPM2TOOLS_TCTI", place).current_dir(&self.dir).output();
            let output = output.with_context(|| format!("Cannot run {line}: run `cargo xtask setup`"))?;
            ensure!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }

    fn make_key(&self, name: &str) -> Result<()> {
        self.tool(&format!("tpm2_createek -c {name}-ek.ctx -G ecc"))?;
        let key =
            format!("tpm2_createak -C {name}-ek.ctx -c {name}.ctx -G ecc -g sha256 -s ecdsa -f pem -u {name}.pem");
        self.tool(&key)
    }

    fn extend(&self, pcr: u8) -> Result<()> {
        self.tool(&format!("tpm2_pcrextend {pcr}:sha256={}", "5a".repeat(32)))
    }

    fn quote(&self, key: &str, token: &str, to: &str) -> Result<()> {
        let digest: String = Sha256::digest(fs::read(self.path(token))?).iter().map(|b| format!("{b:02x}")).collect();
        let pcrs = PCRS.map(|pcr| pcr.to_string()).join(",");
        let to = format!("-m {to} -s {to}.sig -f plain -o {to}.pcrs -F values");
        self.tool(&format!("tpm2_quote -c {key}.ctx -l sha256:{pcrs} -g sha256 -q {digest} {to}"))
    }

    /// The values that the PCRs had in a quote.
    fn values(&self, quote: &str) -> Result<Value> {
        let values = fs::read(self.path(&format!("{quote}.pcrs")))?;
        ensure!(values.len() == 32 * PCRS.len(), "Values of {} bytes", values.len());
        let hex = |value: &[u8]| value.iter().map(|b| format!("{b:02x}")).collect::<String>();
        let pairs = PCRS.iter().zip(values.chunks(32)).map(|(pcr, value)| (pcr.to_string(), hex(value).into()));
        Ok(Value::Object(pairs.collect()))
    }

    fn write_policy(&self, pcrs: &Value) -> Result<()> {
        self.write("policy.json", json!({ "max_age_s": 60, "tpm": { "key": "ak.pem", "pcrs": pcrs } }).to_string())
    }

    fn write_token(&self, name: &str, yama: u64) -> Result<()> {
        let key = PrivateKey::from_seed(&Zeroizing::new([7; 32]));
        self.write("public.pem", key.public().to_pem()?)?;
        self.write(name, cose::sign(&claims(yama)?, &key)?)
    }

    fn verify(&self, token: &str, more: &[&str]) -> Result<Output> {
        let mut verify = Command::new(env!("CARGO_BIN_EXE_secretvmm-verify"));
        verify.args(["--policy", "policy.json", "--nonce", NONCE, "--key", "public.pem", token]).args(more);
        Ok(verify.current_dir(&self.dir).output()?)
    }

    fn verify_quote(&self, token: &str, quote: &str) -> Result<Output> {
        self.verify(token, &["--quote", quote, "--quote-signature", &format!("{quote}.sig")])
    }

    fn accepts(&self, token: &str, quote: &str) -> Result<()> {
        let output = self.verify_quote(token, quote)?;
        ensure!(output.status.success(), "{output:?}");
        let said: Value = serde_json::from_slice(&output.stdout)?;
        ensure!(said["submods"]["tpm"]["ear.status"] == "affirming", "{said:#}");
        ensure!(said["meaning"].as_str().is_some_and(|meaning| meaning.contains("a TPM what was booted")), "{said:#}");
        Ok(())
    }

    fn refuses(&self, token: &str, quote: &str, why: &str) -> Result<()> {
        let output = self.verify_quote(token, quote)?;
        ensure!(output.status.code() == Some(1), "{output:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(said.contains(why), "Not {why}, but {said}");
        Ok(())
    }
}

impl Drop for Tpm {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Claims that every policy accepts which asks for nothing.
fn claims(yama: u64) -> Result<Claims> {
    let host = Host {
        kernel: "6.12".into(),
        build_id: None,
        secretmem: 0x6f,
        strict_devmem: None,
        lockdown: None,
        kexec: Some(Kexec::Absent),
        swap: None,
        ksm: None,
        yama: Some(yama),
        cmdline: None,
    };
    let digest = Digest::of(b"");
    let vm = Vm { kernel: digest, initrd: None, cmdline: digest, config: digest, vmm: digest, sandbox: vec![] };
    let memory = Memory {
        backing: Backing::Secret,
        flags: 1,
        pages: 1,
        huge: 0,
        pool: 0,
        direct_mapped: 0,
        aliases: 0,
        slots: vec![Slot { gpa: 0, size: 4096 }],
    };
    let issued_at = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let nonce: Nonce = NONCE.parse()?;
    Ok(Claims { issued_at, nonce, profile: PROFILE.into(), host, vm, mem: vec![memory] })
}
