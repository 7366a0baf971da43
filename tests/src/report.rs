// SPDX-License-Identifier: Apache-2.0
//! Lines for the person (or the log) that reads a run.

use std::fmt::Display;
use std::io::Write;

/// Prints a measured figure, past libtest's capture, so that it shows for tests that pass too.
///
/// Figures are for reading and comparing within one run; no test asserts them as limits.
pub fn figure(name: &str, value: impl Display, unit: &str) {
    // A closed stdout must not fail a test.
    let _ = writeln!(std::io::stdout(), "figure: {name} = {value} {unit}");
}
