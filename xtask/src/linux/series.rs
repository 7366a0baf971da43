// SPDX-License-Identifier: Apache-2.0
//! What belongs to one kernel version, in kernel-patches/<version>: the patch series, and configuration
//! options that other versions do not have or name differently.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::support::key::Key;
use crate::support::process;

/// Configuration fragments of a version, besides those for all of them.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fragment {
    Host,
    Guest,
}

/// Where the fragment for `version` ("6.12") is.
///
/// # Errors
/// There is no series for this version; the message names the versions there are.
pub(crate) fn fragment(repo: &Path, version: &str, fragment: Fragment) -> Result<PathBuf> {
    let name = match fragment {
        Fragment::Host => "host.config",
        Fragment::Guest => "guest.config",
    };
    Ok(folder(repo, version)?.join(name))
}

/// `kernel-patches/<version>`.
fn folder(repo: &Path, version: &str) -> Result<PathBuf> {
    let dir = repo.join("kernel-patches").join(version);
    if !dir.join(LIST).is_file() {
        bail!("There is no series for Linux {version}, only for {}", versions(repo)?.join(" and "));
    }
    Ok(dir)
}

/// The versions that have a series, the oldest first.
fn versions(repo: &Path) -> Result<Vec<String>> {
    let dir = repo.join("kernel-patches");
    let entries = fs::read_dir(&dir).with_context(|| format!("Cannot read {}", dir.display()))?;
    let mut versions: Vec<String> = entries
        .flatten()
        .filter(|entry| entry.path().join(LIST).is_file())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    versions.sort_by_key(|version| version.split('.').map(|part| part.parse().unwrap_or(0)).collect::<Vec<u32>>());
    Ok(versions)
}

/// The file that names a version's patches in their order.
const LIST: &str = "series";

/// Patches in the order in which they apply.
pub(crate) struct Series {
    version: String,
    patches: Vec<PathBuf>,
}

impl Series {
    /// Reads the series for `version` ("6.12").
    pub(crate) fn read(repo: &Path, version: &str) -> Result<Self> {
        let dir = folder(repo, version)?;
        let list = dir.join(LIST);
        let text = fs::read_to_string(&list).with_context(|| format!("Cannot read {}", list.display()))?;
        let patches: Vec<PathBuf> = names(&text).map(|name| dir.join(name)).collect();
        if patches.is_empty() {
            bail!("No patches for Linux {version}: {} names none", list.display());
        }
        if let Some(absent) = patches.iter().find(|patch| !patch.is_file()) {
            bail!("{} names {}, which is not there", list.display(), absent.display());
        }
        Ok(Self { version: version.to_owned(), patches })
    }

    /// How many patches.
    pub(crate) fn len(&self) -> usize {
        self.patches.len()
    }

    /// The first `count` patches as a series; 0 for the source as it came.
    pub(crate) fn first(&self, count: usize) -> Self {
        Self { version: self.version.clone(), patches: self.patches.iter().take(count).cloned().collect() }
    }

    /// The name of the patch that is the last of the first `count`.
    pub(crate) fn name(&self, count: usize) -> Option<String> {
        count.checked_sub(1).and_then(|last| self.patches.get(last)).map(|patch| file_name(patch))
    }

    /// A hash over names, order and contents.
    pub(crate) fn key(&self) -> Result<String> {
        let mut key = Key::new("series 1");
        for patch in &self.patches {
            key = key.with_file(&file_name(patch), patch)?;
        }
        Ok(key.finish())
    }

    /// This series with one more patch behind it.
    pub(crate) fn with(mut self, patch: &Path) -> Self {
        self.patches.push(patch.to_owned());
        self
    }

    /// Applies every patch to `tree`, in order.
    pub(crate) fn apply(&self, tree: &Path) -> Result<()> {
        let to = format!("Linux {}", self.version);
        self.patches.iter().try_for_each(|patch| apply(patch, tree, &to))
    }

    /// The files the series changes, relative to the tree.
    pub(crate) fn touched(&self) -> Result<Vec<String>> {
        let mut files = Vec::new();
        for patch in &self.patches {
            let text = fs::read(patch).with_context(|| format!("Cannot read {}", patch.display()))?;
            files.extend(touched_by(&String::from_utf8_lossy(&text)));
        }
        files.sort();
        files.dedup();
        Ok(files)
    }
}

/// Applies a patch without fuzz to `tree`, which is called `name`. `patch` writes a new file and renames it, so files
/// shared with another tree by hard links stay whole.
pub(crate) fn apply(patch: &Path, tree: &Path, name: &str) -> Result<()> {
    let mut command = Command::new("patch");
    command.args([
        "-p1",
        "-F0",
        "--forward",
        "--batch",
        "--silent",
        "--no-backup-if-mismatch",
        "--reject-file=-",
        "-i",
    ]);
    command.arg(patch).current_dir(tree).stderr(Stdio::null());
    let output = process::captured(&mut command).context("No patch; cargo xtask setup installs it")?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stdout);
        bail!("{} does not apply to {name}:\n{}", file_name(patch), why.trim());
    }
    Ok(())
}

/// The patch names in a series file: one a line, `#` starts a comment.
fn names(series: &str) -> impl Iterator<Item = &str> {
    series.lines().map(|line| line.split('#').next().unwrap_or_default().trim()).filter(|name| !name.is_empty())
}

/// The files in a patch's `---`/`+++` lines, without their first component.
fn touched_by(patch: &str) -> Vec<String> {
    patch
        .lines()
        .filter_map(|line| line.strip_prefix("+++ ").or_else(|| line.strip_prefix("--- ")))
        .filter_map(|path| path.split('\t').next())
        .filter(|path| path.starts_with("a/") || path.starts_with("b/"))
        .map(|path| path[2..].to_owned())
        .collect()
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::support::paths::create_dir;

    #[test]
    fn read_of_an_unknown_version_names_those_there_are() {
        let folder = tempfile::tempdir().unwrap();
        let repo = folder.path();
        for version in ["7.3", "6.12", "6.9"] {
            create_dir(&repo.join("kernel-patches").join(version)).unwrap();
            fs::write(repo.join("kernel-patches").join(version).join(LIST), "0001-x.patch\n").unwrap();
        }
        create_dir(&repo.join("kernel-patches/config")).unwrap();
        let error = Series::read(repo, "7.2").err().unwrap().to_string();
        assert_eq!(error, "There is no series for Linux 7.2, only for 6.9 and 6.12 and 7.3");
        assert_eq!(fragment(repo, "7.2", Fragment::Guest).unwrap_err().to_string(), error);
        assert!(fragment(repo, "7.3", Fragment::Host).unwrap().ends_with("kernel-patches/7.3/host.config"));
    }

    #[test]
    fn names_skips_comments_and_blank_lines() {
        let series = "# order matters\n0001-a.patch\n\n  0002-b.patch # why\n";
        assert_eq!(names(series).collect::<Vec<_>>(), ["0001-a.patch", "0002-b.patch"]);
    }

    #[test]
    fn touched_by_reads_both_sides_and_no_dev_null() {
        let patch = "--- a/mm/x.c\t2026\n+++ b/mm/x.c\n@@ -1 +1 @@\n--- /dev/null\n+++ b/mm/new.c\n---\n file | 2\n";
        assert_eq!(touched_by(patch), ["mm/x.c", "mm/x.c", "mm/new.c"]);
    }
}
