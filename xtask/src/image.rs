// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask image`: a guest with Debian on its disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::linux::stock::{self, Flavour};
use crate::setup;
use crate::support::cache::{self, Draft, Shelf};
use crate::support::initramfs::Initramfs;
use crate::support::key::Key;
use crate::support::paths::Paths;
use crate::support::process;
use crate::support::progress::Progress;

/// The release on the disk.
const RELEASE: &str = "bookworm";
const KEPT: usize = 2;

/// Build a root file system for guests: Debian 12 with systemd, as an ext4 image.
///
/// Prints the path of the image; `initrd`, with which Debian's cloud kernel finds it,
/// lies beside it, target/artifacts/debian links there. Made by debootstrap, as root,
/// from the mirror that this machine's own apt uses.
#[derive(clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(paths: &Paths, _args: &Args) -> Result<()> {
    setup::run(&setup::Args {})?;
    println!("{}", ensure(paths)?.join("rootfs.ext4").display());
    Ok(())
}

/// Builds the image unless the cache has it; gives the folder it is in.
pub(crate) fn ensure(paths: &Paths) -> Result<PathBuf> {
    let recipe = paths.repo.join("guest-kernel/debian");
    let kernel = stock::ensure(paths, Flavour::Cloud)?;
    let package = fs::read(kernel.join("package")).context("Cannot read the name of Debian's kernel package")?;
    let key = with_files(Key::new("debian image 1").with("kernel", package), &recipe)?.finish();
    let shelf = Shelf { cache: &paths.cache, lock: "image", dir: paths.cache.join("images"), kept: KEPT };
    let entry = shelf.entry(&key, |entry| build(paths, &recipe, &kernel, entry))?;
    cache::link(&entry, &paths.artifacts().join("debian"))?;
    Ok(entry)
}

fn build(paths: &Paths, recipe: &Path, kernel: &Path, entry: &Path) -> Result<()> {
    let mirror = mirror()?;
    let draft = Draft::new(entry)?;
    let script = fs::read_to_string(recipe.join("initrd")).context("Cannot read the initrd's script")?;
    Initramfs { init: &script, folders: &["root"], files: &[], modules: Some(kernel) }
        .write(&draft.path().join("initrd"))?;

    let log = paths.build_logs().join("image.log");
    cache::remove(&log)?;
    let Some(mut command) = setup::as_root() else {
        bail!(
            "debootstrap needs root. Run cargo xtask image once as root, with SECRETVMM_CACHE={}",
            paths.cache.display()
        );
    };
    command.arg(recipe.join("build.sh")).arg(mirror).arg(draft.path().join("rootfs.ext4"));
    let mut progress = Progress::start("Debian image");
    process::logged(&mut command, &log, &mut progress, is_package_step, "steps")
        .context("Cannot build the Debian image")?;
    progress.finish("done");
    draft.publish()
}

/// The archive that this machine takes the release from.
fn mirror() -> Result<String> {
    let ask = || {
        let filters = [&format!("Codename: {RELEASE}"), "Component: main", "Created-By: Packages"];
        process::output(Command::new("apt-get").args(["indextargets", "--format", "$(REPO_URI)"]).args(filters))
    };
    let mut answer = ask()?;
    if answer.is_empty() {
        setup::refresh_package_lists()?;
        answer = ask()?;
    }
    let first = answer.lines().next().map(str::to_owned);
    first.with_context(|| format!("This machine's package sources do not offer {RELEASE}; the image needs Debian 12"))
}

/// Whether a line of debootstrap's stands for a package that it has come further with.
fn is_package_step(line: &str) -> bool {
    ["I: Retrieving ", "I: Extracting ", "I: Unpacking ", "I: Configuring "].iter().any(|step| line.starts_with(step))
}

/// Hashes a folder's files, names included.
fn with_files(mut key: Key, dir: &Path) -> Result<Key> {
    let entries = fs::read_dir(dir).with_context(|| format!("Cannot read {}", dir.display()))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        key = key.with("name", path.file_name().unwrap_or_default().as_encoded_bytes());
        key = if path.is_dir() { with_files(key, &path)? } else { key.with_file("content", &path)? };
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_package_step_counts_packages_only() {
        assert!(is_package_step("I: Extracting libc6...\n"));
        assert!(is_package_step("I: Configuring systemd...\n"));
        assert!(!is_package_step("I: Base system installed successfully.\n"));
    }
}
