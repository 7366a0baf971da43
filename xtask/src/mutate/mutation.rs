// SPDX-License-Identifier: Apache-2.0
//! A mutation: a file in tests/mutations that says which guard it disables and which test has to notice, and how.
//!
//! ```text
//! Guard: GUP-fast refuses folios of secretmem
//! Suite: lab
//! Test: lab::selftests::memfd_secret
//!
//! --- a/mm/gup.c
//! +++ b/mm/gup.c
//! @@ …
//! ```
//!
//! `Suite:` is a suite of `cargo xtask test` that runs on the lab's kernel, and `Test:` a filter of it.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::host::Host;
use crate::suites::NestedSuite;

/// One guard disabled.
#[derive(Debug)]
pub(super) struct Mutation {
    /// `gup-fast`.
    pub(super) name: String,
    pub(super) guard: String,
    pub(super) test: Test,
    pub(super) patch: PathBuf,
}

/// What has to turn red: tests on a nested host.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Test {
    pub(super) suite: String,
    pub(super) filter: String,
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "suite {}, {}", self.suite, self.filter)
    }
}

impl Mutation {
    /// Every mutation of the kernel.
    pub(super) fn all(repo: &Path) -> Result<Vec<Self>> {
        let folder = repo.join("tests/mutations");
        let entries = fs::read_dir(&folder).with_context(|| format!("Cannot read {}", folder.display()))?;
        let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        files.retain(|file| file.extension().is_some_and(|extension| extension == "patch"));
        files.sort();
        let read = |file: &PathBuf| {
            let text = fs::read_to_string(file).with_context(|| format!("Cannot read {}", file.display()))?;
            Self::parse(file, &text).with_context(|| format!("{} is not a mutation", file.display()))
        };
        files.iter().map(read).collect()
    }

    fn parse(file: &Path, text: &str) -> Result<Self> {
        let diff = text.find("\n--- ").context("There is no diff in it")? + 1;
        ensure!(text[diff..].contains("\n@@ "), "There is no change in its diff");
        let mut header = Header::parse(&text[..diff])?;
        let guard = header.take("Guard")?;
        let test = Test { suite: header.take("Suite")?, filter: header.take("Test")? };
        header.end()?;
        let Test { suite, .. } = &test;
        let known = NestedSuite::find(suite).with_context(|| format!("There is no suite {suite}"))?;
        ensure!(known.host == Host::Lab, "Suite {suite} does not run on the lab's kernel");
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { name, guard, test, patch: file.to_owned() })
    }
}

/// Lines `Key: value`, that are taken one by one.
struct Header<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Header<'a> {
    fn parse(text: &'a str) -> Result<Self> {
        let lines = text.lines().filter(|line| !line.is_empty());
        let pair = |line: &'a str| line.split_once(": ").with_context(|| format!("No \"Key: value\": {line}"));
        lines.map(pair).collect::<Result<_>>().map(Self)
    }

    fn take(&mut self, key: &str) -> Result<String> {
        let at = self.0.iter().position(|(found, _)| *found == key);
        let (_, value) = self.0.remove(at.with_context(|| format!("There is no line {key}:"))?);
        Ok(value.trim().to_owned())
    }

    /// Nothing is left.
    fn end(self) -> Result<()> {
        let left: Vec<_> = self.0.iter().map(|(key, _)| *key).collect();
        ensure!(left.is_empty(), "Not known, too many, or not with the others: {}", left.join(", "));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const DIFF: &str = "--- a/mm/x.c\n+++ b/mm/x.c\n@@ -1 +1 @@\n-a\n+b\n";

    fn parse(header: &str, diff: &str) -> Result<Mutation> {
        Mutation::parse(Path::new("/r/gup.patch"), &format!("{header}\n{diff}"))
    }

    #[test]
    fn parse_reads_guard_and_test() {
        let mutation = parse("Guard: a: b\nSuite: lab\nTest: lab::x\n", DIFF).unwrap();
        assert_eq!((mutation.name.as_str(), mutation.guard.as_str()), ("gup", "a: b"));
        assert_eq!(mutation.test, Test { suite: "lab".into(), filter: "lab::x".into() });
    }

    #[test]
    fn parse_refuses_what_is_missing_unknown_or_twice() {
        for (header, diff, says) in [
            ("Guard: a\nSuite: lab\nTest: x\n", "", "no diff"),
            ("Guard: a\nSuite: lab\nTest: x\n", "--- a/x\n+++ b/x\n", "no change"),
            ("Suite: lab\nTest: x\n", DIFF, "Guard"),
            ("Guard: a\nSuite: lab\n", DIFF, "Test"),
            ("Guard: a\nTest: x\n", DIFF, "Suite"),
            ("Guard: a\nSuite: lab\nTest: x\nTest: y\n", DIFF, "Test"),
            ("Guard: a\nSuite: lab\nTest: x\nWhy: y\n", DIFF, "Why"),
            ("Guard: a\nSuite: lab\nTest: x\nmore\n", DIFF, "more"),
            ("Guard: a\nSuite: laboratory\nTest: x\n", DIFF, "no suite laboratory"),
            ("Guard: a\nSuite: stock\nTest: x\n", DIFF, "does not run on the lab's kernel"),
        ] {
            let error = format!("{:#}", parse(header, diff).unwrap_err());
            assert!(error.contains(says), "{header:?}: {error}");
        }
    }

    #[test]
    fn all_of_the_repository_are_well_formed() {
        let repo = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        assert!(!Mutation::all(repo).unwrap().is_empty());
    }
}
