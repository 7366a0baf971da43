// SPDX-License-Identifier: Apache-2.0
//! `secretmem-run PROGRAM …`: a program whose OpenSSL keeps its keys in secret memory.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Parser;

const LIBRARY: &str = "libsecretmem_openssl.so";

/// Run a program whose OpenSSL allocates in memory that the kernel does not map.
///
/// The program must be linked dynamically, with libcrypto.so.3, or load it later. The dynamic linker ignores this for
/// programs that change their user (setuid).
#[derive(Parser)]
#[command(name = "secretmem-run", version)]
struct Cli {
    /// Print statistics when a process of the program ends.
    #[arg(long)]
    stats: bool,
    /// Go on, with a warning, where OpenSSL's memory cannot be secret.
    #[arg(long)]
    best_effort: bool,
    /// Use ordinary locked memory, with a warning, where the kernel has no secret memory.
    #[arg(long)]
    fallback: bool,
    /// What forked children see: their own copy, zeroes, or nothing.
    #[arg(long, value_parser = ["copy", "wiped", "fault"], default_value = "copy")]
    fork: String,
    /// The program and its arguments.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "PROGRAM")]
    command: Vec<OsString>,
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    let flag = |set| if set { "1" } else { "0" };
    let (program, args) = cli.command.split_first().context("No program was named")?;
    let error = Command::new(program)
        .args(args)
        .env("LD_PRELOAD", preloads(library()?))
        .env("SECRETMEM_STATS", flag(cli.stats))
        .env("SECRETMEM_REQUIRE", flag(!cli.best_effort))
        .env("SECRETMEM_FALLBACK", flag(cli.fallback))
        .env("SECRETMEM_FORK", &cli.fork)
        .exec();
    Err(error).with_context(|| format!("{} could not be started", program.display()))
}

/// Beside this program, or where libraries of its prefix lie.
fn library() -> Result<PathBuf> {
    let here = std::env::current_exe().context("The path of secretmem-run could not be found")?;
    let folder = here.parent().context("secretmem-run lies in no folder")?;
    let places = [folder.join(LIBRARY), folder.join("../lib").join(LIBRARY)];
    match places.iter().find(|place| place.exists()) {
        Some(found) => Ok(found.clone()),
        None => bail!("{LIBRARY} was not found in {} or ../lib; install it there", folder.display()),
    }
}

/// Ours, then those that were set before.
fn preloads(library: PathBuf) -> OsString {
    let mut all = library.into_os_string();
    if let Some(others) = std::env::var_os("LD_PRELOAD").filter(|others| !others.is_empty()) {
        all.push(":");
        all.push(others);
    }
    all
}
