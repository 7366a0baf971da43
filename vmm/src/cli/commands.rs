// SPDX-License-Identifier: Apache-2.0
//! `secretvmm attest`, `public-key` and `measure`: what a verifier is given.

use std::error::Error;
use std::fs;
use std::io::{Write, stderr, stdout};
use std::path::PathBuf;

use clap::{ArgAction, Args, Subcommand};
use secretvmm_api::Attestation;
use secretvmm_api::client::Client;
use secretvmm_evidence::{MEANING, Nonce};
use serde_json::json;

use crate::attestation::{own_program, public_key};
use crate::config::{DEFAULT_CMDLINE, round_memory};
use crate::layout;
use crate::loader::{self, Initrd, Kernel, Plan};
use crate::memory::{GuestRam, RamKind};

/// What is not the start of a VM.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Ask a running VMM for a token that says which VM it is and what the kernel says of it
    ///
    /// Without a hardware TEE that means: a key controlled by this host says that its kernel reports
    /// this. The VMM has to run with --attestation-key, and the guest on secret memory.
    Attest(Attest),
    /// Print the public half of an attestation key in PEM, for verifiers
    PublicKey(PublicKey),
    /// Print the digests that a guest of these files will have in its tokens, as JSON
    Measure(Measure),
}

/// Help, which commands do not get by themselves because the program does not either.
#[derive(Debug, Args)]
struct Help {
    /// Print this help; -h prints a summary
    #[arg(short, long, action = ArgAction::Help)]
    help: Option<bool>,
}

/// Arguments of `attest`.
#[derive(Debug, Args)]
pub struct Attest {
    /// The VMM's API socket
    #[arg(long, value_name = "PATH")]
    api_sock: PathBuf,
    /// 8 to 64 bytes that the verifier has made up
    #[arg(long, value_name = "HEX")]
    nonce: Nonce,
    /// Write the token there; otherwise it is printed in base64url
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    help: Help,
}

/// Arguments of `public-key`.
#[derive(Debug, Args)]
pub struct PublicKey {
    /// The file that --attestation-key names
    #[arg(value_name = "FILE")]
    key: PathBuf,
    #[command(flatten)]
    help: Help,
}

/// Arguments of `measure`.
#[derive(Debug, Args)]
pub struct Measure {
    /// Kernel: a bzImage, or an ELF vmlinux built with CONFIG_PVH
    #[arg(long, value_name = "PATH")]
    kernel: PathBuf,
    /// Initial RAM disk
    #[arg(long, value_name = "PATH")]
    initrd: Option<PathBuf>,
    /// Kernel command line, with the root= that a root device adds to it
    #[arg(long, value_name = "STR", default_value = DEFAULT_CMDLINE)]
    cmdline: String,
    #[command(flatten)]
    help: Help,
}

impl Command {
    /// Does it and prints what came out.
    ///
    /// # Errors
    /// With what to do about it.
    pub fn run(&self) -> Result<(), Box<dyn Error>> {
        let text = match self {
            Self::Attest(attest) => attest.run()?,
            Self::PublicKey(PublicKey { key, .. }) => public_key(key)?.to_pem()?,
            Self::Measure(measure) => measure.run()?,
        };
        Ok(stdout().write_all(text.as_bytes())?)
    }
}

impl Attest {
    fn run(&self) -> Result<String, Box<dyn Error>> {
        let client = Client::new(&self.api_sock)?;
        let answer: Attestation = client.get(&format!("/attestation?nonce={}", self.nonce))?;
        let Some(path) = &self.output else { return Ok(answer.token + "\n") };
        let token = answer.token_bytes().ok_or("The VMM's answer is no base64url")?;
        fs::write(path, token).map_err(|err| format!("{} cannot be written: {err}", path.display()))?;
        writeln!(stderr(), "{MEANING}")?;
        Ok(String::new())
    }
}

impl Measure {
    /// Loads everything into memory as for a VM, and measures it there.
    fn run(&self) -> Result<String, Box<dyn Error>> {
        let mut kernel = Kernel::open(&self.kernel)?;
        let mut initrd = self.initrd.as_deref().map(Initrd::open).transpose()?;
        loader::check_cmdline(&self.cmdline, kernel.cmdline_limit())?;
        let size = initrd.as_ref().map(Initrd::size);
        // Where the initrd ends up depends on it, what it is does not.
        let end = kernel.footprint().end.saturating_add(size.unwrap_or(0)).saturating_add(layout::RAM_MIN);
        let ram = round_memory(end).ok_or("The initrd is larger than any guest's memory")?;
        let plan = Plan::new(&kernel, size, ram)?;
        let ram = GuestRam::create(RamKind::Shared, ram)?;
        plan.load(ram.memory(), &mut kernel, initrd.as_mut(), &self.cmdline)?;
        let loaded = plan.measure(ram.memory(), &kernel, &self.cmdline)?;
        let digests = json!({
            "kernel": loaded.kernel,
            "initrd": loaded.initrd,
            "cmdline": loaded.cmdline,
            "vmm": own_program()?,
        });
        Ok(format!("{digests:#}\n"))
    }
}
