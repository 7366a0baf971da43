// SPDX-License-Identifier: Apache-2.0
//! The witnesses inside: the matrix of probes, and among them the module in the host's kernel.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::host::{self, Host, Job};
use crate::linux::source::SourceArgs;
use crate::matrix;
use crate::nested::Capture;
use crate::suites::MATRIX;
use crate::support::paths::Paths;

/// How the module's own probes begin.
const MODULE: &str = "module: ";

/// A result, as `tests/src/matrix/cell.rs` describes it.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Cell {
    pub(super) probe: String,
    pub(super) row: String,
    pub(super) target: String,
    pub(super) result: String,
    pub(super) errno: Option<String>,
    pub(super) expected: String,
    pub(super) ok: bool,
}

impl Cell {
    /// Whether its target is hidden.
    pub(super) fn is_secret(&self) -> bool {
        self.target.starts_with("secret")
    }

    /// Whether contents came out, or the kernel did to the memory what was asked.
    pub(super) fn got_through(&self) -> bool {
        matches!(self.result.as_str(), "HIT" | "TOOK")
    }

    /// What came, in a word.
    pub(super) fn word(&self) -> &str {
        match (self.result.as_str(), &self.errno) {
            ("REFUSED", Some(errno)) => errno,
            ("NOT_APPLICABLE", _) => "-",
            (result, _) => result,
        }
    }
}

/// Runs the matrix on a host of its own, just after each guest's boot; prints its figures.
pub(super) fn run(paths: &Paths, source: &SourceArgs) -> Result<Vec<Cell>> {
    let copy = Capture::kept();
    let machine = MATRIX.machine();
    let command = vec![paths.release().join("matrix").into()];
    let job = Job { machine, copy: Some(copy.clone()), ..Job::new(Host::Lab, source, command) };
    let outcome = host::run_job(paths, &job)?;
    if let Some(complaint) = outcome.complaint() {
        bail!(complaint);
    }
    let cells = matrix::cells(&copy.text()).into_iter().map(serde_json::from_value).collect::<Result<Vec<Cell>, _>>();
    let cells = cells.context("The matrix has an unexpected form")?;
    if cells.is_empty() {
        bail!("The matrix brought nothing back (exit code {})", outcome.code);
    }
    print(&cells);
    Ok(cells)
}

fn print(cells: &[Cell]) {
    for (title, module) in [("As root on the host", false), ("A module in its kernel", true)] {
        let of: Vec<&Cell> = cells.iter().filter(|cell| cell.probe.starts_with(MODULE) == module).collect();
        let count =
            |secret: bool, hit: bool| of.iter().filter(|c| c.is_secret() == secret && c.got_through() == hit).count();
        println!("   {title}: {} probes", probes(&of));
        println!("      ordinary memory  {} results got through, {} did not", count(false, true), count(false, false));
        println!(
            "      hidden guests    {} results got through (each a known one), {} did not",
            count(true, true),
            count(true, false)
        );
    }
    for leak in known_leaks(cells) {
        println!("      known to read hidden memory: {leak}");
    }
}

fn probes(cells: &[&Cell]) -> usize {
    cells.iter().map(|cell| (&cell.probe, ())).collect::<BTreeMap<_, _>>().len()
}

/// What reads hidden memory, and is expected to.
fn known_leaks(cells: &[Cell]) -> Vec<&str> {
    let leaks = cells.iter().filter(|cell| cell.is_secret() && cell.got_through() && cell.ok);
    let mut names: Vec<&str> = leaks.map(|cell| cell.probe.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// What is not as it must be.
pub(super) fn objections(cells: &[Cell]) -> Vec<String> {
    let wrong = cells.iter().filter(|cell| !cell.ok);
    wrong.map(|cell| format!("{}, {}: {} instead of {}", cell.target, cell.probe, cell.word(), cell.expected)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(probe: &str, target: &str, result: &str, ok: bool) -> Cell {
        Cell {
            probe: probe.into(),
            row: "row".into(),
            target: target.into(),
            result: result.into(),
            errno: (result == "REFUSED").then(|| "EFAULT".into()),
            expected: "EFAULT".into(),
            ok,
        }
    }

    #[test]
    fn objections_and_leaks_are_told_apart() {
        let cells = [
            cell("a", "memfd", "HIT", true),
            cell("a", "secret-2m", "REFUSED", true),
            cell("b", "secret-2m", "HIT", true),
            cell("b", "secret-4k", "HIT", true),
            cell("c", "secret-4k", "HIT", false),
        ];
        assert_eq!(known_leaks(&cells), ["b"]);
        assert_eq!(objections(&cells), ["secret-4k, c: HIT instead of EFAULT"]);
        assert_eq!((cells[1].word(), cells[2].word()), ("EFAULT", "HIT"));
    }
}
