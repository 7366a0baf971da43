// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask ci`: what has to pass before a change lands.

mod deny;
mod prose;
mod spdx;

use anyhow::{Context, Result};

use crate::support::cargo::cargo;
use crate::support::paths::Paths;
use crate::support::process;
use crate::{setup, test};

/// Check format, lints, dependencies and licence lines, measure the texts' sentences, then run all tests.
///
/// Advisories of dependencies are skipped, and counted so, where their database cannot be fetched.
#[derive(clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(paths: &Paths, _args: &Args) -> Result<u8> {
    let format = &["fmt", "--all", "--check"];
    run_cargo(paths, format).context("The code is not formatted; cargo fmt --all does it")?;
    setup::run(&setup::Args {})?;
    let clippy = &["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"];
    run_cargo(paths, clippy).context("Clippy has complaints")?;
    let before = vec![deny::check(paths)?, spdx::check(paths)?];
    prose::report(&paths.repo)?;
    test::run_after(paths, &test::Args::default(), before)
}

fn run_cargo(paths: &Paths, arguments: &[&str]) -> Result<()> {
    process::passed_through(cargo(paths).args(arguments))
}
