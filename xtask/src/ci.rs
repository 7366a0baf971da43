//! `cargo xtask ci`: what has to pass before a change lands.

use anyhow::{Context, Result};

use crate::support::cargo::cargo;
use crate::support::paths::Paths;
use crate::support::process;
use crate::{setup, test};

/// Check format and lints, then run all tests.
#[derive(clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(paths: &Paths, _args: &Args) -> Result<u8> {
    setup::run(&setup::Args {})?;
    lint(paths)?;
    test::run(paths, &test::Args::default())
}

fn lint(paths: &Paths) -> Result<()> {
    let mut format = cargo(paths);
    format.args(["fmt", "--all", "--check"]);
    process::passed_through(&mut format).context("The code is not formatted; cargo fmt --all does it")?;
    let mut clippy = cargo(paths);
    clippy.args(["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"]);
    process::passed_through(&mut clippy).context("Clippy has complaints")
}
