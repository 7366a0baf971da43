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
//! `Suite:` is a suite of `cargo xtask test`, and `Test:` a filter of it. A test of a package, without a VM, has
//! `Package:` in place of it.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;

use crate::host::Host;
use crate::suites::NestedSuite;

/// What a mutation changes: a folder of tests/mutations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// The verifier of tokens.
    Verifier,
    /// The VMM.
    Vmm,
    /// The host's kernel with the series.
    Kernel,
}

impl Kind {
    fn folder(self) -> &'static str {
        match self {
            Self::Verifier => "verifier",
            Self::Vmm => "vmm",
            Self::Kernel => "kernel",
        }
    }
}

/// One guard disabled.
#[derive(Debug)]
pub(super) struct Mutation {
    pub(super) kind: Kind,
    /// `kernel/gup-fast`.
    pub(super) name: String,
    pub(super) guard: String,
    pub(super) test: Test,
    pub(super) patch: PathBuf,
}

/// What has to turn red.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Test {
    /// Tests on a nested host.
    Nested { suite: String, filter: String },
    /// Tests of a package, on this machine.
    Unit { package: String, filter: String },
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nested { suite, filter } => write!(f, "suite {suite}, {filter}"),
            Self::Unit { package, filter } => write!(f, "{package}, {filter}"),
        }
    }
}

impl Mutation {
    /// Every mutation, the quickest first.
    pub(super) fn all(repo: &Path) -> Result<Vec<Self>> {
        let mut all = Vec::new();
        for kind in Kind::value_variants() {
            let folder = repo.join("tests/mutations").join(kind.folder());
            let entries = fs::read_dir(&folder).with_context(|| format!("Cannot read {}", folder.display()))?;
            let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
            files.sort();
            for file in files {
                let text = fs::read_to_string(&file).with_context(|| format!("Cannot read {}", file.display()))?;
                let read = Self::parse(*kind, &file, &text);
                all.push(read.with_context(|| format!("{} is no mutation", file.display()))?);
            }
        }
        Ok(all)
    }

    fn parse(kind: Kind, file: &Path, text: &str) -> Result<Self> {
        ensure!(file.extension().is_some_and(|extension| extension == "patch"), "Its name does not end with .patch");
        let diff = text.find("\n--- ").context("There is no diff in it")? + 1;
        ensure!(text[diff..].contains("\n@@ "), "There is no change in its diff");
        let mut header = Header::parse(&text[..diff])?;
        let guard = header.take("Guard")?;
        let filter = header.take("Test")?;
        let test = match header.take("Package") {
            Ok(package) => Test::Unit { package, filter },
            Err(_) => Test::Nested { suite: header.take("Suite").context("Nor is there a line Package:")?, filter },
        };
        header.end()?;
        if let Test::Nested { suite, .. } = &test {
            let known = NestedSuite::find(suite).with_context(|| format!("There is no suite {suite}"))?;
            ensure!(kind != Kind::Kernel || known.host == Host::Lab, "Suite {suite} does not run on the lab's kernel");
        }
        match (kind, &test) {
            (Kind::Kernel, Test::Unit { .. }) => bail!("A kernel takes a Suite: to test"),
            (Kind::Verifier, Test::Nested { .. }) => bail!("The verifier needs no VM: give a Package:"),
            _ => {}
        }
        let stem = file.file_stem().unwrap_or_default().to_string_lossy();
        Ok(Self { kind, name: format!("{}/{stem}", kind.folder()), guard, test, patch: file.to_owned() })
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
    use std::process::Command;

    const DIFF: &str = "--- a/mm/x.c\n+++ b/mm/x.c\n@@ -1 +1 @@\n-a\n+b\n";

    fn parse(kind: Kind, header: &str, diff: &str) -> Result<Mutation> {
        Mutation::parse(kind, Path::new("/r/gup.patch"), &format!("{header}\n{diff}"))
    }

    #[test]
    fn parse_reads_guard_and_test() {
        let mutation = parse(Kind::Kernel, "Guard: a: b\nSuite: lab\nTest: lab::x\n", DIFF).unwrap();
        assert_eq!((mutation.name.as_str(), mutation.guard.as_str()), ("kernel/gup", "a: b"));
        assert_eq!(mutation.test, Test::Nested { suite: "lab".into(), filter: "lab::x".into() });
        let mutation = parse(Kind::Vmm, "Guard: a\nPackage: secretvmm\nTest: x\n", DIFF).unwrap();
        assert_eq!(mutation.test, Test::Unit { package: "secretvmm".into(), filter: "x".into() });
        let nested = "Guard: a\nSuite: stock\nTest: x\n";
        assert!(parse(Kind::Vmm, nested, DIFF).is_ok());
        assert!(parse(Kind::Verifier, nested, DIFF).is_err());
    }

    #[test]
    fn parse_refuses_what_is_missing_unknown_or_twice() {
        for (header, diff, says) in [
            ("Guard: a\nSuite: lab\nTest: x\n", "", "no diff"),
            ("Guard: a\nSuite: lab\nTest: x\n", "--- a/x\n+++ b/x\n", "no change"),
            ("Suite: lab\nTest: x\n", DIFF, "Guard"),
            ("Guard: a\nSuite: lab\n", DIFF, "Test"),
            ("Guard: a\nTest: x\n", DIFF, "Package"),
            ("Guard: a\nSuite: lab\nTest: x\nTest: y\n", DIFF, "Test"),
            ("Guard: a\nSuite: lab\nPackage: y\nTest: x\n", DIFF, "Suite"),
            ("Guard: a\nSuite: lab\nTest: x\nWhy: y\n", DIFF, "Why"),
            ("Guard: a\nSuite: lab\nTest: x\nmore\n", DIFF, "more"),
            ("Guard: a\nSuite: laboratory\nTest: x\n", DIFF, "no suite laboratory"),
            ("Guard: a\nSuite: stock\nTest: x\n", DIFF, "does not run on the lab's kernel"),
            ("Guard: a\nPackage: y\nTest: x\n", DIFF, "takes a Suite"),
        ] {
            let error = format!("{:#}", parse(Kind::Kernel, header, diff).unwrap_err());
            assert!(error.contains(says), "{header:?}: {error}");
        }
    }

    #[test]
    fn all_of_the_repository_are_well_formed() {
        let repo = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let all = Mutation::all(repo).unwrap();
        for kind in Kind::value_variants() {
            assert!(all.iter().any(|mutation| mutation.kind == *kind), "None of {kind:?}");
        }
    }

    /// A change near a guard changes its mutation, too. The kernel's are tried where its source is.
    #[test]
    fn all_of_rust_code_apply_to_the_repository() {
        let repo = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let mutations = Mutation::all(repo).unwrap();
        for mutation in mutations.iter().filter(|mutation| mutation.kind != Kind::Kernel) {
            let mut patch = Command::new("patch");
            patch.args(["-p1", "-F0", "--dry-run", "--silent", "-d"]).arg(repo).arg("-i").arg(&mutation.patch);
            let tried = patch.output().unwrap();
            assert!(tried.status.success(), "{}: {}", mutation.name, String::from_utf8_lossy(&tried.stdout));
        }
    }
}
