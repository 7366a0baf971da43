// SPDX-License-Identifier: Apache-2.0
//! Debian's own kernels, fetched but not installed: the full one as an
//! unpatched nested host, the cloud one as a guest that nobody prepared.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::setup;
use crate::support::cache::{self, Draft};
use crate::support::paths::Paths;
use crate::support::process;
use crate::support::progress::Progress;

/// Modules the nested host loads at start, with what they depend on. Those
/// after the overlay may fail: KVM fits one maker's CPU only.
const HOST_MODULES: Modules =
    Modules { names: &["9pnet_virtio", "9p", "overlay", "virtio-rng", "tun", "kvm-amd", "kvm-intel"], needed: 3 };

/// Modules with which a guest finds its devices and reads its power button.
const GUEST_MODULES: Modules = Modules {
    names: &["virtio_mmio", "virtio_blk", "virtio_net", "vmw_vsock_virtio_transport", "virtio-rng", "button", "evdev"],
    needed: 7,
};

/// Modules to load at start; those after the first `needed` may fail.
struct Modules {
    names: &'static [&'static str],
    needed: usize,
}

/// The list of modules beside them; a line that starts with `?` may fail.
pub(crate) const ORDER: &str = "modules/order";

/// Which of Debian's kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flavour {
    /// Everything; with the modules of a nested host (`modules/`).
    Full,
    /// For virtual machines; with the modules of a guest.
    Cloud,
}

impl Flavour {
    /// The package that depends on the newest point release.
    fn meta_package(self) -> &'static str {
        match self {
            Self::Full => "linux-image-6.12-amd64",
            Self::Cloud => "linux-image-6.12-cloud-amd64",
        }
    }

    fn artifact(self) -> &'static str {
        match self {
            Self::Full => "stock-debian",
            Self::Cloud => "stock-cloud",
        }
    }

    fn modules(self) -> &'static Modules {
        match self {
            Self::Full => &HOST_MODULES,
            Self::Cloud => &GUEST_MODULES,
        }
    }
}

/// Fetches the kernel unless the cache has it; gives the folder with `vmlinuz`,
/// `config`, `package` (its name) and `modules/`.
pub(crate) fn ensure(paths: &Paths, flavour: Flavour) -> Result<PathBuf> {
    let entry = paths.cache.join(flavour.artifact());
    let complete = || entry.join(ORDER).is_file();
    let _lock = cache::lock_unless(&paths.cache, "stock", complete)?;
    if !complete() {
        let mut progress = Progress::start(format!("fetch {}", flavour.meta_package()));
        let result = fetch(flavour, &entry, &mut progress);
        progress.finish("");
        result.with_context(|| format!("Cannot fetch {}", flavour.meta_package()))?;
    }
    cache::link(&entry, &paths.artifacts().join(flavour.artifact()))?;
    Ok(entry)
}

fn fetch(flavour: Flavour, entry: &Path, progress: &mut Progress) -> Result<()> {
    let package = match dependency(flavour.meta_package()) {
        Ok(package) => package,
        Err(_) => {
            setup::refresh_package_lists()?;
            dependency(flavour.meta_package())?
        }
    };
    let unpacked = Draft::new(&entry.with_extension("unpacked"))?;
    process::output(Command::new("apt-get").args(["download", &package]).current_dir(unpacked.path()))?;
    progress.update("unpacking");
    let deb = find(unpacked.path(), |name| name.ends_with(".deb"))?;
    process::output(Command::new("dpkg-deb").arg("-x").arg(&deb).arg(unpacked.path()))?;

    let draft = Draft::new(entry)?;
    let boot = unpacked.path().join("boot");
    for (prefix, name) in [("vmlinuz-", "vmlinuz"), ("config-", "config")] {
        let from = find(&boot, |file| file.starts_with(prefix))?;
        fs::copy(&from, draft.path().join(name)).with_context(|| format!("Cannot copy {}", from.display()))?;
    }
    fs::write(draft.path().join("package"), &package).context("Cannot note the package's name")?;
    progress.update("finding modules");
    collect_modules(flavour.modules(), unpacked.path(), draft.path())?;
    draft.publish()
}

/// The one package that a meta package depends on.
fn dependency(meta: &str) -> Result<String> {
    let text = process::output(Command::new("apt-cache").args(["depends", "--important", meta]))?;
    first_dependency(&text).with_context(|| format!("{meta} is not offered by this machine's package sources"))
}

fn first_dependency(text: &str) -> Option<String> {
    text.lines().find_map(|line| line.trim().strip_prefix("Depends: ")).map(str::to_owned)
}

/// The only entry of a folder that `accepts`.
fn find(dir: &Path, accepts: impl Fn(&str) -> bool) -> Result<PathBuf> {
    let entries = fs::read_dir(dir).with_context(|| format!("Cannot read {}", dir.display()))?;
    let found = entries.flatten().find(|entry| accepts(&entry.file_name().to_string_lossy()));
    found
        .map(|entry| entry.path())
        .with_context(|| format!("The package has an unexpected layout below {}", dir.display()))
}

/// Decompresses the modules, numbered in load order.
fn collect_modules(modules: &Modules, unpacked: &Path, draft: &Path) -> Result<()> {
    let all = unpacked.join("lib/modules");
    let version = find(&all, |_| true)?;
    let name = version.file_name().unwrap_or_default();
    process::output(Command::new("/sbin/depmod").arg("-b").arg(unpacked).arg(name))?;
    let path = version.join("modules.dep");
    let text = fs::read_to_string(&path).with_context(|| format!("Cannot read {}", path.display()))?;

    let dir = draft.join("modules");
    crate::support::paths::create_dir(&dir)?;
    let mut order = String::new();
    for (number, (file, optional)) in load_order(&text, modules.names, modules.needed)?.into_iter().enumerate() {
        let name = format!("{number:02}-{}.ko", module_name(&file));
        decompress(&version.join(&file), &dir.join(&name))?;
        order.push_str(&format!("{}{name}\n", if optional { "?" } else { "" }));
    }
    fs::write(draft.join(ORDER), order).context("Cannot note the modules' order")
}

fn decompress(from: &Path, to: &Path) -> Result<()> {
    let program = match from.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        Some("gz") => "gzip",
        _ => return fs::copy(from, to).map(drop).with_context(|| format!("Cannot copy {}", from.display())),
    };
    let output = File::create(to).with_context(|| format!("Cannot write {}", to.display()))?;
    let status = process::status(Command::new(program).arg("-dc").arg(from).stdin(Stdio::null()).stdout(output))?;
    if !status.success() {
        bail!("Cannot decompress {}", from.display());
    }
    Ok(())
}

/// Files to load for `wanted`, dependencies first, each once; true for those
/// that only wanted modules from `optional_from` on need.
fn load_order(modules_dep: &str, wanted: &[&str], optional_from: usize) -> Result<Vec<(String, bool)>> {
    let lines: HashMap<String, Vec<&str>> = modules_dep
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(file, needs)| {
            let needs = needs.split_whitespace().collect::<Vec<_>>();
            // depmod lists the deepest dependency last.
            (module_name(file), needs.into_iter().rev().chain([file]).collect())
        })
        .collect();
    let mut seen = HashSet::new();
    let mut order = Vec::new();
    for (index, name) in wanted.iter().enumerate() {
        let files = lines.get(&module_name(name)).with_context(|| format!("The package has no module {name}"))?;
        let new = files.iter().filter(|file| seen.insert(**file));
        order.extend(new.map(|file| ((*file).to_owned(), index >= optional_from)));
    }
    Ok(order)
}

/// `kernel/fs/9p/9p.ko.xz` → `9p`; names spell `-` as `_`.
fn module_name(file: &str) -> String {
    let name = file.rsplit('/').next().unwrap_or(file);
    name.split('.').next().unwrap_or(name).replace('-', "_")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn first_dependency_reads_apt_cache() {
        let text = "linux-image-6.12-amd64\n  Depends: linux-image-6.12.117+deb12-amd64\n";
        assert_eq!(first_dependency(text).as_deref(), Some("linux-image-6.12.117+deb12-amd64"));
        assert_eq!(first_dependency("N: Unable to locate package\n"), None);
    }

    #[test]
    fn load_order_dependencies_come_first_and_once() {
        let dep =
            "k/9p.ko.xz: k/9pnet.ko.xz k/netfs.ko.xz\nk/9pnet.ko.xz: k/netfs.ko.xz\nk/kvm-amd.ko.xz: k/kvm.ko.xz\n";
        let order = load_order(dep, &["9p", "kvm_amd"], 1).unwrap();
        let names: Vec<_> = order.iter().map(|(file, optional)| (module_name(file), *optional)).collect();
        let expected = [("netfs", false), ("9pnet", false), ("9p", false), ("kvm", true), ("kvm_amd", true)];
        assert_eq!(names, expected.map(|(name, optional)| (name.to_owned(), optional)));
        assert!(load_order(dep, &["overlay"], 1).is_err());
    }
}
