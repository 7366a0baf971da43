// SPDX-License-Identifier: Apache-2.0
//! Programs from the crates' registry, one version of each, in the cache.

use std::process::Command;

use anyhow::{Context, Result};

use super::cache;
use super::cargo::cargo;
use super::paths::Paths;
use super::process;
use super::progress::Progress;

/// A crate with a program of its name.
pub(crate) struct Tool {
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
}

/// A command that runs it in the repository, after it has been installed if it is not there.
///
/// # Errors
/// It cannot be installed.
pub(crate) fn command(paths: &Paths, Tool { name, version }: &Tool) -> Result<Command> {
    let root = paths.cache.join("tools").join(format!("{name}-{version}"));
    let program = root.join("bin").join(name);
    let _lock = cache::lock_unless(&paths.cache, name, || program.exists())?;
    if !program.exists() {
        let mut install = cargo(paths);
        install.args(["install", "--locked", name, "--version", version, "--root"]).arg(&root);
        let log = paths.build_logs().join(format!("{name}.log"));
        let mut progress = Progress::start(format!("install {name} {version}"));
        process::logged(&mut install, &log, &mut progress, is_crate, "crates")
            .with_context(|| format!("Cannot install {name}"))?;
        progress.finish("");
    }
    let mut command = Command::new(program);
    command.current_dir(&paths.repo);
    Ok(command)
}

/// Whether a line of cargo's stands for a crate that is being built.
fn is_crate(line: &str) -> bool {
    line.trim_start().starts_with("Compiling ")
}
