// SPDX-License-Identifier: Apache-2.0
//! Building one kernel from a tree and configuration options.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use anyhow::{Context, Result, bail};

use super::kconfig::Options;
use super::source::Tree;
use crate::support::cache::{self, Draft};
use crate::support::key::Key;
use crate::support::paths::{Paths, create_dir};
use crate::support::process;
use crate::support::progress::Progress;

/// The build's log, beside the kernel.
pub(crate) const BUILD_LOG: &str = "build.log";

/// What to build, and where its parts go.
pub(crate) struct Kernel<'a> {
    /// For people: `host kernel (lab)`.
    pub(crate) title: String,
    /// Ends the release that `uname -r` shows: `-lab`.
    pub(crate) suffix: String,
    pub(crate) tree: &'a Tree,
    pub(crate) options: &'a Options,
    /// Built for it and published with it.
    pub(crate) module: Option<&'a Module>,
    /// Objects, kept for the next build.
    pub(crate) objects: PathBuf,
    pub(crate) log: PathBuf,
}

impl Kernel<'_> {
    /// Configures, checks the configuration, compiles, and publishes `bzImage`,
    /// `vmlinux`, `config`, `System.map`, the module and the log as the cache entry `entry`.
    pub(crate) fn build(&self, entry: &Path) -> Result<()> {
        let draft = Draft::new(entry)?;
        create_dir(&self.objects)?;
        cache::remove(&self.log)?;
        let mut progress = Progress::start(&self.title);
        let objects = self.configure(&mut progress).and_then(|()| self.compile(&mut progress));
        let objects = objects.with_context(|| format!("Cannot build the {}", self.title))?;
        progress.finish(&format!("{objects} objects"));
        for (from, to) in [
            (self.objects.join("arch/x86/boot/bzImage"), "bzImage"),
            (self.objects.join("vmlinux"), "vmlinux"),
            (self.objects.join(".config"), "config"),
            (self.objects.join("System.map"), "System.map"),
            (self.log.clone(), BUILD_LOG),
        ] {
            copy(&from, &draft.path().join(to))?;
        }
        if let Some(module) = self.module {
            copy(&module.built(&self.objects), &draft.path().join(&module.file))?;
        }
        draft.publish()
    }

    fn configure(&self, progress: &mut Progress) -> Result<()> {
        let wanted = self.objects.join("wanted.config");
        fs::write(&wanted, self.options.to_text()).with_context(|| format!("Cannot write {}", wanted.display()))?;
        let mut make = self.make();
        make.arg("allnoconfig").env("KCONFIG_ALLCONFIG", &wanted);
        process::logged(&mut make, &self.log, progress, |_| false, "objects")?;

        let path = self.objects.join(".config");
        let config = fs::read_to_string(&path).with_context(|| format!("Cannot read {}", path.display()))?;
        let missing = self.options.missing_in(&config);
        if !missing.is_empty() {
            bail!("Kconfig did not take: {}. A dependency is missing in the fragments", missing.join(", "));
        }
        Ok(())
    }

    fn compile(&self, progress: &mut Progress) -> Result<u64> {
        let jobs = thread::available_parallelism().map_or(1, usize::from);
        let mut make = self.make();
        make.arg(format!("-j{jobs}")).args(["bzImage", "vmlinux"]);
        // Without this, the kernel's symbols are unknown to a module.
        make.args(self.module.map(|_| "modules"));
        let objects = process::logged(&mut make, &self.log, progress, is_object, "objects")?;
        let Some(module) = self.module else { return Ok(objects) };
        let folder = module.copied(&self.objects)?;
        let mut make = self.make();
        make.arg(format!("M={}", folder.display())).arg("modules");
        Ok(objects + process::logged(&mut make, &self.log, progress, is_object, "objects")?)
    }

    /// `make` in the object folder.
    fn make(&self) -> Command {
        let mut command = make_in(&self.tree.dir);
        command.arg(format!("O={}", self.objects.display())).arg(format!("LOCALVERSION={}", self.suffix));
        command
    }
}

/// A module that is not part of the kernel's source.
pub(crate) struct Module {
    /// Its sources, and a Kbuild that names them.
    sources: PathBuf,
    /// What Kbuild makes of them: `x.ko`.
    file: String,
}

impl Module {
    /// The in-kernel witness of the tests.
    pub(crate) fn witness(paths: &Paths) -> Self {
        Self { sources: paths.repo.join("tests/witness"), file: "secretvmm_witness.ko".into() }
    }

    /// A key over its sources.
    pub(crate) fn key(&self) -> Result<String> {
        let files = self.files()?;
        let add = |key: Key, file: &PathBuf| key.with_file(&file.to_string_lossy(), &self.sources.join(file));
        Ok(files.iter().try_fold(Key::new("module 1").with("file", &self.file), add)?.finish())
    }

    /// Copies its sources into a folder of their own below `objects`: nothing is written where they came from.
    fn copied(&self, objects: &Path) -> Result<PathBuf> {
        let folder = Self::folder(objects);
        cache::remove(&folder)?;
        create_dir(&folder)?;
        self.files()?.iter().try_for_each(|file| copy(&self.sources.join(file), &folder.join(file)))?;
        Ok(folder)
    }

    fn built(&self, objects: &Path) -> PathBuf {
        Self::folder(objects).join(&self.file)
    }

    fn folder(objects: &Path) -> PathBuf {
        objects.join("secretvmm-module")
    }

    /// Names of the sources, in order.
    fn files(&self) -> Result<Vec<PathBuf>> {
        let entries = fs::read_dir(&self.sources).with_context(|| format!("No {}", self.sources.display()))?;
        let mut names: Vec<PathBuf> = entries.flatten().map(|entry| entry.file_name().into()).collect();
        names.sort();
        Ok(names)
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).map(drop).with_context(|| format!("Cannot copy {}", from.display()))
}

/// `make` in a folder of the source. Who builds where and when must not show in the
/// result.
pub(super) fn make_in(dir: &Path) -> Command {
    let mut command = Command::new("nice");
    command.args(["-n", "5", "make", "--no-print-directory", "-C"]).arg(dir);
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("MAKE") || text.starts_with("KBUILD_") || text.starts_with("KCONFIG_") || text == "MFLAGS" {
            command.env_remove(&name);
        }
    }
    command
        .env("LC_ALL", "C")
        .env("KBUILD_BUILD_TIMESTAMP", "Thu Jan  1 00:00:00 UTC 2026")
        .env("KBUILD_BUILD_USER", "secretvmm")
        .env("KBUILD_BUILD_HOST", "xtask")
        .env("KBUILD_BUILD_VERSION", "1");
    command
}

/// Whether a line of kbuild's short output stands for an object made.
fn is_object(line: &str) -> bool {
    line.starts_with("  ") && line.trim_end().ends_with(".o")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_object_counts_kbuild_lines_only() {
        assert!(is_object("  CC      mm/secretmem.o\n"));
        assert!(is_object("  AS      arch/x86/entry/entry_64.o\n"));
        assert!(!is_object("  GEN     include/generated/utsrelease.h\n"));
        assert!(!is_object("mm/secretmem.o: warning: x.o\n"));
    }
}
