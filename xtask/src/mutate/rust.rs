// SPDX-License-Identifier: Apache-2.0
//! Rust code: cargo-mutants changes one place at a time and runs the package's tests.

use std::fs;
use std::io;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::kind::Kind;
use super::verdict::Sum;
use crate::support::paths::{Paths, create_dir};
use crate::support::{process, tool};

/// The version whose mutations have been looked at.
const MUTANTS: tool::Tool = tool::Tool { name: "cargo-mutants", version: "27.1.0" };

/// What is mutated, and by whose tests it is seen.
pub(super) struct Scope {
    pub(super) kind: Kind,
    package: &'static str,
    /// Files below the repository; none: all of the package.
    files: &'static [&'static str],
}

pub(super) const SCOPES: [Scope; 2] = [
    Scope { kind: Kind::Verifier, package: "secretvmm-evidence", files: &[] },
    Scope {
        kind: Kind::Vmm,
        package: "secretvmm",
        files: &["vmm/src/attestation/host.rs", "vmm/src/attestation/key.rs", "vmm/src/loader/measure.rs"],
    },
];

/// The part of mutants.out/outcomes.json that counts.
#[derive(Deserialize)]
struct Outcomes {
    caught: u64,
    missed: u64,
    timeout: u64,
    unviable: u64,
}

/// Tries every mutation in the scope; what survives is printed by the tool.
pub(super) fn check(paths: &Paths, scope: &Scope) -> Result<Sum> {
    let mut mutants = tool::command(paths, &MUTANTS)?;
    let output = paths.target.join("mutations").join(scope.package);
    create_dir(&output)?;
    mutants.args(["mutants", "--package", scope.package, "--colors", "never", "--output"]).arg(&output);
    for file in scope.files {
        mutants.args(["--file", file]);
    }
    let code = process::status(mutants.stdout(io::stderr()))?.code();
    // 2: some survived; 3: some took too long (its book, exit codes).
    if !matches!(code, Some(0 | 2 | 3)) {
        bail!("cargo-mutants could not try anything (exit code {code:?}); see {}", output.display());
    }
    let Outcomes { caught, missed, timeout, unviable } = read(&output.join("mutants.out/outcomes.json"))?;
    println!("{}: {caught} caught, {missed} survived, {timeout} without end, {unviable} do not build", scope.package);
    Ok(Sum { red: caught + timeout, survived: missed, invalid: 0 })
}

fn read(path: &Path) -> Result<Outcomes> {
    let text = fs::read_to_string(path).with_context(|| format!("Cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is not understood", path.display()))
}
