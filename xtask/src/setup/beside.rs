// SPDX-License-Identifier: Apache-2.0
//! QEMU beside programs of another version of it: unpacked in the cache, where apt would have to remove them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::support::cache::{self, Draft};
use crate::support::paths::Paths;
use crate::support::process;

/// The package of the emulator.
pub(super) const QEMU: &str = "qemu-system-x86";

/// It, and what comes from the same source and has to be of the same version.
const UNPACKED: [&str; 3] = [QEMU, "qemu-system-common", "qemu-system-data"];

const PROGRAM: &str = "qemu-system-x86_64";

/// The emulator to run: the unpacked one, if there is one.
pub(crate) fn program(cache: &Path) -> PathBuf {
    let unpacked = folder(cache).join("usr/bin").join(PROGRAM);
    if unpacked.exists() { unpacked } else { PROGRAM.into() }
}

/// Whether there is an unpacked emulator, and the libraries that it needs.
pub(super) fn works(cache: &Path) -> bool {
    let mut command = Command::new(folder(cache).join("usr/bin").join(PROGRAM));
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    process::status(&mut command).is_ok_and(|status| status.success())
}

/// What else the plan of an installation installs: the libraries.
pub(super) fn libraries(plan: &str) -> Vec<&str> {
    let names = plan.lines().filter_map(|line| line.strip_prefix("Inst ")?.split(' ').next());
    names.filter(|name| !UNPACKED.contains(name)).collect()
}

/// Fetches and unpacks the emulator.
pub(super) fn unpack(paths: &Paths) -> Result<()> {
    let _lock = cache::lock(&paths.cache, QEMU)?;
    let fetched = Draft::new(&folder(&paths.cache).with_extension("fetched"))?;
    let unpacked = Draft::new(&folder(&paths.cache))?;
    process::output(Command::new("apt-get").arg("download").args(UNPACKED).current_dir(fetched.path()))?;
    let packages = fetched.path().read_dir().with_context(|| format!("Cannot read {}", fetched.path().display()))?;
    for package in packages.flatten() {
        process::output(Command::new("dpkg-deb").arg("-x").arg(package.path()).arg(unpacked.path()))?;
    }
    unpacked.publish()
}

/// QEMU finds its data and modules by where its program is.
fn folder(cache: &Path) -> PathBuf {
    cache.join("tools/qemu")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn libraries_leave_out_the_emulators_own_packages() {
        let plan = "Remv qemu-utils [1:10.0]\nInst libfdt1 (1.6 Debian:12 [amd64])\nInst qemu-system-x86 (1:7.2)\nConf libfdt1 (1.6)\n";
        assert_eq!(libraries(plan), ["libfdt1"]);
    }

    #[test]
    fn program_is_the_unpacked_one_once_it_is_there() {
        let cache = tempfile::tempdir().unwrap();
        assert_eq!(program(cache.path()), Path::new(PROGRAM));
        let unpacked = folder(cache.path()).join("usr/bin").join(PROGRAM);
        std::fs::create_dir_all(&unpacked).unwrap();
        assert_eq!(program(cache.path()), unpacked);
        assert!(!works(cache.path()));
    }
}
