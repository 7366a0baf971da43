// SPDX-License-Identifier: Apache-2.0
//! The rows that go to `cargo xtask bench`: JSON, one a line.

use std::fmt::Display;
use std::io::Write;

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// Prints a figure of `measured`, which is a backing's name or `host`.
///
/// # Errors
/// Nobody reads standard output any more.
pub fn figure(measured: &str, figure: &str, value: u64) -> Result<()> {
    print(&json!({ "measured": measured, "figure": figure, "value": value }))
}

/// Prints why a figure cannot be had.
///
/// # Errors
/// As [`figure`].
pub fn absent(measured: &str, figure: &str, why: impl Display) -> Result<()> {
    print(&json!({ "measured": measured, "figure": figure, "absent": why.to_string() }))
}

fn print(row: &Value) -> Result<()> {
    writeln!(std::io::stdout(), "{row}").context("Cannot write to standard output")
}
