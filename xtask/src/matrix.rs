// SPDX-License-Identifier: Apache-2.0
//! `target/matrix.json`: what the probes of the matrix found (tests/src/matrix/cell.rs has its schema).

use std::fs;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::support::paths::Paths;

/// What a result's line starts with, in the output of the matrix; a test's name may come before it.
const LINE: &str = "cell: ";

/// The results in an output.
pub(crate) fn cells(output: &str) -> Vec<Value> {
    let lines = output.lines().filter_map(|line| line.split_once(LINE));
    lines.filter_map(|(_, json)| serde_json::from_str(json).ok()).collect()
}

/// Writes the file, unless there is nothing to put into it.
pub(crate) fn keep<'a>(paths: &Paths, cells: impl Iterator<Item = &'a Value>) -> Result<()> {
    let cells: Vec<&Value> = cells.collect();
    if cells.is_empty() {
        return Ok(());
    }
    let file = paths.target.join("matrix.json");
    let text = serde_json::to_string_pretty(&cells).context("Cannot write JSON")?;
    fs::write(&file, text).with_context(|| format!("Cannot write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_found_behind_a_tests_name_and_among_other_lines() {
        let output = "test matrix::booted ... cell: {\"probe\":\"a\",\"ok\":true}\nfigure: x = 1\n\
                      cell: {\"probe\":\"b\"}\ncell: cut o\n";
        let found = cells(output);
        assert_eq!(found.len(), 2);
        assert_eq!(found[1]["probe"], "b");
    }
}
