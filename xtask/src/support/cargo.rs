// SPDX-License-Identifier: Apache-2.0
//! Cargo, on the repository.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use super::paths::{self, Paths};
use super::process;

/// Builds every program of the workspace that runs on the nested host, statically linked, so that it starts in a jail.
pub(crate) fn build_release(paths: &Paths) -> Result<()> {
    let mut cargo = cargo(paths);
    cargo.args(["build", "--release", "--workspace", "--exclude", "xtask", "--bins", "--target", paths::TARGET]);
    cargo.arg("--config").arg(format!("target.{}.rustflags=[\"-Ctarget-feature=+crt-static\"]", paths::TARGET));
    cargo.stdout(std::io::stderr());
    process::passed_through(&mut cargo).context("Cannot build the workspace")
}

/// Builds a program of the workspace for the inside of a guest: static, for the guest has no libraries.
pub(crate) fn build_static(paths: &Paths, package: &str, program: &str) -> Result<PathBuf> {
    let target_dir = paths.target.join("guest");
    let mut cargo = cargo(paths);
    cargo
        .args(["build", "--quiet", "--release", "--package", package, "--bin", program, "--target", paths::TARGET])
        .arg("--target-dir")
        .arg(&target_dir)
        .env("RUSTFLAGS", "-C target-feature=+crt-static");
    process::passed_through(&mut cargo).with_context(|| format!("Cannot build the guest's {program}"))?;
    Ok(target_dir.join(paths::TARGET).join("release").join(program))
}

/// Cargo in the repository.
pub(crate) fn cargo(paths: &Paths) -> Command {
    let program: OsString = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut cargo = Command::new(program);
    cargo.current_dir(&paths.repo);
    cargo
}
