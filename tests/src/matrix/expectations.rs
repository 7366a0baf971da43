// SPDX-License-Identifier: Apache-2.0
//! The table of expectations, `tests/matrix/expectations.txt`: one line a probe, a word a column.

use anyhow::{Context, Result, ensure};

use super::target::TargetKind;

/// The table, as it is in the repository.
const TABLE: &str = include_str!("../../matrix/expectations.txt");

/// Yama's ptrace_scope (Documentation/admin-guide/LSM/Yama.rst).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Yama {
    /// Classic rules: root may debug everything.
    Open = 0,
    /// Nobody may debug anything, until the host is booted again.
    NoDebugger = 3,
}

/// A line of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expectation {
    /// The probe's name.
    pub probe: String,
    words: [String; COLUMNS],
    with_policy: String,
}

const COLUMNS: usize = 5;
/// In the last column: as where yama forbids nothing.
const SAME: &str = "=";

impl Expectation {
    /// What is expected of a target.
    pub fn word(&self, target: TargetKind, yama: Yama) -> &str {
        let without = &self.words[target as usize];
        match yama {
            Yama::NoDebugger if self.with_policy != SAME && without != "-" => &self.with_policy,
            _ => without,
        }
    }

    /// Whether the probe can find what it looks for: it does in ordinary memory.
    pub fn has_control(&self) -> bool {
        let controls = [TargetKind::Anonymous, TargetKind::Memfd];
        controls.iter().any(|&target| ["HIT", "TOOK"].contains(&self.word(target, Yama::Open)))
    }

    /// Whether hidden memory is read by it: a known leak.
    pub fn is_leak(&self) -> bool {
        self.words.iter().skip(2).any(|word| word == "HIT" || word == "TOOK")
    }
}

/// Every line of the table.
///
/// # Errors
/// A line has not one word for each column.
pub fn table() -> Result<Vec<Expectation>> {
    let lines = TABLE.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    lines.map(|line| parse(line).with_context(|| format!("The table of expectations has: {line}"))).collect()
}

/// The line of a probe.
///
/// # Errors
/// It is not in the table.
pub fn of<'a>(table: &'a [Expectation], probe: &str) -> Result<&'a Expectation> {
    let found = table.iter().find(|expectation| expectation.probe == probe);
    found.with_context(|| format!("The table of expectations has no line for {probe:?}"))
}

fn parse(line: &str) -> Result<Expectation> {
    let fields = line.split('|').map(|field| field.trim().to_owned()).collect::<Vec<_>>();
    ensure!(fields.len() == COLUMNS + 2, "{} columns instead of {}", fields.len(), COLUMNS + 2);
    let words: [String; COLUMNS] = fields[1..=COLUMNS].to_vec().try_into().unwrap_or_default();
    let with_policy = fields[COLUMNS + 1].clone();
    ensure!(fields.iter().all(|field| !field.is_empty()), "An empty column");
    Ok(Expectation { probe: fields[0].clone(), words, with_policy })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::probes::matrix;

    #[test]
    fn table_has_every_probe_once_and_no_other() {
        let listed = table().unwrap().iter().map(|line| line.probe.clone()).collect::<Vec<_>>();
        let probes = matrix().map(|probe| probe.name.to_owned()).collect::<Vec<_>>();
        assert_eq!(listed, probes);
        assert_eq!(probes.iter().collect::<BTreeSet<_>>().len(), probes.len());
        assert!(probes.len() >= 45, "{} probes", probes.len());
    }

    #[test]
    fn table_has_a_control_for_every_probe() {
        // It moves pages of the prober's own, or is invalid.
        let has_own = |line: &Expectation| line.probe == "compaction";
        for line in table().unwrap().iter().filter(|line| !has_own(line)) {
            assert!(line.has_control(), "{} finds nothing in ordinary memory", line.probe);
        }
    }

    #[test]
    fn word_with_policy_replaces_all_but_what_is_not_applicable() {
        let line = parse("x | - | HIT | EFAULT | EIO | ABSENT | POLICY").unwrap();
        assert_eq!(line.word(TargetKind::Secret2m, Yama::Open), "EIO");
        assert_eq!(line.word(TargetKind::Secret2m, Yama::NoDebugger), "POLICY");
        assert_eq!(line.word(TargetKind::Anonymous, Yama::NoDebugger), "-");
        assert!(parse("x | HIT | HIT").is_err());
    }
}
