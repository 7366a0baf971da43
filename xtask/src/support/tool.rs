//! Programs from the crates' registry, one version of each, in the cache.

use std::process::Command;

use anyhow::{Context, Result};

use super::cargo::cargo;
use super::paths::Paths;
use super::process;

/// A crate with a program of its name.
pub(crate) struct Tool {
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
}

/// A command that runs it in the repository, after it has been installed if it is not there.
///
/// # Errors
/// It cannot be installed.
pub(crate) fn command(paths: &Paths, tool: &Tool) -> Result<Command> {
    let root = paths.cache.join("tools").join(format!("{}-{}", tool.name, tool.version));
    let program = root.join("bin").join(tool.name);
    if !program.exists() {
        eprintln!("xtask: installing {} {}", tool.name, tool.version);
        let mut install = cargo(paths);
        install.args(["install", "--quiet", "--locked", tool.name, "--version", tool.version, "--root"]).arg(&root);
        process::passed_through(&mut install).with_context(|| format!("Cannot install {}", tool.name))?;
    }
    let mut command = Command::new(program);
    command.current_dir(&paths.repo);
    Ok(command)
}
