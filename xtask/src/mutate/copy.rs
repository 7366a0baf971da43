//! A copy of the repository in which Rust code is mutated, with a target folder of its own.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::verdict::Ended;
use crate::demo::cargo;
use crate::linux::series;
use crate::support::cache;
use crate::support::paths::{Paths, create_dir};
use crate::support::process;

/// The copy.
pub(super) struct Copy {
    paths: Paths,
    tree: PathBuf,
    target: PathBuf,
}

impl Copy {
    pub(super) fn new(paths: &Paths) -> Self {
        let folder = paths.target.join("mutations");
        Self { paths: paths.clone(), tree: folder.join("tree"), target: folder.join("target") }
    }

    /// Where [`Copy::build`] puts the VMM.
    pub(super) fn programs(&self) -> PathBuf {
        self.target.join("release")
    }

    /// Makes the copy what git tracks, as it is in the repository's folder, and changes it by `patch`. Only files that
    /// differ are written, so that cargo builds no more than it has to.
    pub(super) fn set(&self, patch: Option<&Path>) -> Result<()> {
        let list = process::output(Command::new("git").arg("-C").arg(&self.paths.repo).args(["ls-files", "-z"]))?;
        let tracked: BTreeSet<PathBuf> =
            list.split('\0').filter(|name| !name.is_empty()).map(|name| self.tree.join(name)).collect();
        create_dir(&self.tree)?;
        remove_others(&self.tree, &tracked)?;
        for to in &tracked {
            let from = self.paths.repo.join(to.strip_prefix(&self.tree)?);
            // Deleted, but not in git yet.
            let Ok(content) = fs::read(&from) else { continue };
            if fs::read(to).is_ok_and(|copied| copied == content) {
                continue;
            }
            create_dir(to.parent().unwrap_or(&self.tree))?;
            fs::copy(&from, to).with_context(|| format!("Cannot copy {}", from.display()))?;
        }
        patch.map_or(Ok(()), |patch| series::apply(patch, &self.tree, "the repository"))
    }

    /// Runs the tests of a package whose names contain `filter`; gives their output, too.
    pub(super) fn test(&self, package: &str, filter: &str) -> Result<(Ended, String)> {
        let mut build = self.cargo();
        build.args(["test", "--tests", "--no-run", "--package", package]);
        let built = logged(&mut build)?;
        if !built.success {
            return Ok((Ended::NotRun("it does not build".into()), built.output));
        }
        let mut test = self.cargo();
        test.args(["test", "--tests", "--package", package, filter]);
        let run = logged(&mut test)?;
        let trouble = (!run.success).then(|| "the test program failed".to_owned());
        Ok((Ended::of(&run.output, trouble), run.output))
    }

    /// Builds the VMM, as it is tested on nested hosts.
    pub(super) fn build(&self) -> Result<()> {
        let mut build = self.cargo();
        build.args(["build", "--release", "--package", "secretvmm", "--bin", "secretvmm"]);
        let built = logged(&mut build)?;
        ensure!(built.success, "It does not build:\n{}", built.output);
        Ok(())
    }

    fn cargo(&self) -> Command {
        let mut command = cargo(&self.paths);
        command.current_dir(&self.tree).env("CARGO_TARGET_DIR", &self.target);
        command
    }
}

/// Removes files that an earlier copy or a test has left.
fn remove_others(dir: &Path, tracked: &BTreeSet<PathBuf>) -> Result<()> {
    let entries = fs::read_dir(dir).with_context(|| format!("Cannot read {}", dir.display()))?;
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.is_dir() && !path.is_symlink() {
            remove_others(&path, tracked)?;
        } else if !tracked.contains(&path) {
            cache::remove(&path)?;
        }
    }
    Ok(())
}

struct Run {
    success: bool,
    output: String,
}

fn logged(command: &mut Command) -> Result<Run> {
    let mut output = Vec::new();
    let status = process::for_each_line(command, |line| {
        output.extend(line.unwrap_or_default());
        Ok(())
    })?;
    Ok(Run { success: status.success(), output: String::from_utf8_lossy(&output).into_owned() })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn set_is_what_git_tracks_with_one_change_and_writes_no_more() {
        let root = std::env::temp_dir().join(format!("xtask-mutate-{}", std::process::id()));
        cache::remove(&root).unwrap();
        let repo = root.join("repo");
        create_dir(&repo.join("src")).unwrap();
        for (name, text) in [("src/a.rs", "a\n"), ("src/b.rs", "b\n"), ("untracked", "u\n")] {
            fs::write(repo.join(name), text).unwrap();
        }
        let git = |args: &[&str]| process::output(Command::new("git").arg("-C").arg(&repo).args(args)).unwrap();
        git(&["init", "-q"]);
        git(&["add", "src"]);
        let patch = root.join("x.patch");
        fs::write(&patch, "Guard: x\n\n--- a/src/a.rs\n+++ b/src/a.rs\n@@ -1 +1 @@\n-a\n+A\n").unwrap();

        let paths = Paths { repo, target: root.join("target"), cache: root.join("cache"), xtask: PathBuf::new() };
        let copy = Copy::new(&paths);
        let read = |name: &str| fs::read_to_string(copy.tree.join(name)).ok();
        copy.set(None).unwrap();
        assert_eq!((read("src/a.rs"), read("untracked")), (Some("a\n".into()), None));
        let modified = || fs::metadata(copy.tree.join("src/b.rs")).unwrap().modified().unwrap();
        let before = modified();

        fs::write(copy.tree.join("src/left.rs"), "left").unwrap();
        copy.set(Some(&patch)).unwrap();
        assert_eq!((read("src/a.rs"), read("src/left.rs")), (Some("A\n".into()), None));
        copy.set(None).unwrap();
        assert_eq!(read("src/a.rs"), Some("a\n".into()));
        assert_eq!(modified(), before);

        fs::write(&patch, "--- a/src/a.rs\n+++ b/src/a.rs\n@@ -1 +1 @@\n-other\n+A\n").unwrap();
        assert!(copy.set(Some(&patch)).unwrap_err().to_string().contains("does not apply"));
        cache::remove(&root).unwrap();
    }
}
