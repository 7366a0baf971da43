// SPDX-License-Identifier: Apache-2.0
//! Licences, sources, versions and known faults of what we depend on, by cargo-deny.

use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::Result;

use crate::support::libtest::Counts;
use crate::support::paths::Paths;
use crate::support::{process, tool};
use crate::test::Suite;

/// The version whose configuration deny.toml is.
const DENY: tool::Tool = tool::Tool { name: "cargo-deny", version: "0.20.2" };

/// What needs no network.
const CHECKS: [&str; 3] = ["bans", "licenses", "sources"];

const ADVISORIES: &str = "advisories";

/// Runs the checks, as a suite. Advisories are skipped where their database cannot be had.
pub(super) fn check(paths: &Paths) -> Result<Suite> {
    let begun = Instant::now();
    let mut counts = Counts::default();
    for name in CHECKS {
        counts.add(passes(paths, &["check", name])?);
    }
    // Quietly: where it cannot be had, git says so at length.
    let mut fetch = tool::command(paths, &DENY)?;
    fetch.args(["fetch", "db"]).stdout(Stdio::null()).stderr(Stdio::null());
    if process::status(&mut fetch)?.success() {
        counts.add(passes(paths, &["check", "--disable-fetch", ADVISORIES])?);
    } else {
        eprintln!("xtask: SKIPPED: advisories: their database, github.com/RustSec/advisory-db, cannot be fetched");
        counts.skipped += 1;
    }
    Ok(Suite { name: "deny".into(), counts, time: begun.elapsed(), ..Suite::default() })
}

fn passes(paths: &Paths, arguments: &[&str]) -> Result<bool> {
    let mut command: Command = tool::command(paths, &DENY)?;
    Ok(process::status(command.args(["--log-level", "error"]).args(arguments))?.success())
}
