// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask setup`: the Debian packages that everything else needs.

pub(crate) mod beside;

use std::collections::HashSet;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use nix::unistd::geteuid;

use crate::linux::source;
use crate::support::paths::Paths;
use crate::support::process;

/// What is needed, and what for.
const PACKAGES: [&str; 30] = [
    // The kernels: compiler and Kconfig, what kbuild calls, the source itself.
    "gcc",
    "libc6-dev",
    "make",
    "flex",
    "bison",
    "libelf-dev",
    "libssl-dev",
    "bc",
    "perl",
    "python3",
    "cpio",
    "kmod",
    "gzip",
    "xz-utils",
    "zstd",
    "patch",
    source::PACKAGE,
    // The nested host and the guest's root file system.
    beside::QEMU,
    "seabios",
    "busybox-static",
    // A guest with Debian on its disk.
    "debootstrap",
    "e2fsprogs",
    // Clients in Python, and the networks that they and the tests set up.
    "python3-venv",
    "python3-nftables",
    "iproute2",
    // TLS servers and a client, whose keys secretmem-openssl hides.
    "curl",
    "nginx-light",
    "openssl",
    // A TPM in software, and the tools that ask one for a quote.
    "swtpm",
    "tpm2-tools",
];

/// Reads the package lists anew.
const UPDATE: [&str; 2] = ["update", "-q"];

const RECOMMENDS: &str = "--no-install-recommends";

/// Installs packages, and never removes any.
const INSTALL: [&str; 3] = ["install", "--no-remove", RECOMMENDS];

/// Check for the Debian packages needed, and install those that are missing.
///
/// Installs as root, or with sudo where it asks for no password. Otherwise the
/// one line to run is printed, and nothing is changed. No package is ever removed
/// for another: where apt would remove other programs of QEMU, of another version,
/// to install the emulator, that is unpacked in the cache instead.
#[derive(clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_args: &Args) -> Result<()> {
    ensure(&PACKAGES)
}

/// Installs those of `packages` that are missing.
pub(crate) fn ensure(packages: &[&'static str]) -> Result<()> {
    let missing = missing(packages)?;
    if missing.is_empty() {
        return Ok(());
    }
    let paths = Paths::find()?;
    if missing == [beside::QEMU] && beside::works(&paths.cache) {
        return Ok(());
    }
    install(&paths, &missing)
}

fn missing(packages: &[&'static str]) -> Result<Vec<&'static str>> {
    let mut query = Command::new("dpkg-query");
    query.args(["--show", "--showformat=${Package} ${db:Status-Status}\\n"]).args(packages);
    // Packages it has never heard of are named there; they are missing.
    let output = process::captured(query.stderr(Stdio::null()))
        .context("This needs Debian 12, or install what setup lists by hand")?;
    Ok(absent(packages, &String::from_utf8_lossy(&output.stdout)))
}

/// The packages that dpkg-query's lines do not show as installed.
fn absent(packages: &[&'static str], listing: &str) -> Vec<&'static str> {
    let installed: HashSet<&str> = listing.lines().filter_map(|line| line.trim().strip_suffix(" installed")).collect();
    packages.iter().copied().filter(|package| !installed.contains(package)).collect()
}

fn install(paths: &Paths, missing: &[&str]) -> Result<()> {
    apt_get(&UPDATE, missing)?;
    if !missing.contains(&beside::QEMU) || removals(&plan(missing)?).is_empty() {
        return install_without_removals(missing);
    }
    let rest: Vec<&str> = missing.iter().copied().filter(|package| *package != beside::QEMU).collect();
    install_without_removals(&rest)?;
    let plan = plan(&[beside::QEMU])?;
    let removed = removals(&plan).join(", ");
    eprintln!("apt would remove {removed} to install {}, which is unpacked in the cache instead", beside::QEMU);
    install_without_removals(&beside::libraries(&plan))?;
    beside::unpack(paths)
}

/// Fails if apt would remove a package to install these.
fn install_without_removals(packages: &[&str]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    let plan = plan(packages)?;
    let removed = removals(&plan);
    if !removed.is_empty() {
        bail!(
            "apt would remove {} to install {}. Nothing was changed. Install them by hand in a way that keeps what you need",
            removed.join(", "),
            packages.join(" ")
        );
    }
    let arguments = INSTALL.into_iter().chain(["-y"]).chain(packages.iter().copied());
    apt_get(&arguments.collect::<Vec<_>>(), packages)
}

/// What apt would do to install these. In a simulation the option that forbids removals would hide their names.
fn plan(packages: &[&str]) -> Result<String> {
    process::output(Command::new("apt-get").args(["install", "--simulate", RECOMMENDS]).args(packages))
}

/// What a simulation of apt-get says it would remove, in lines such as `Remv qemu-utils [1:10.0]`.
fn removals(plan: &str) -> Vec<&str> {
    plan.lines().filter_map(|line| line.strip_prefix("Remv ")?.split(' ').next()).collect()
}

/// `apt-get update`, as root or through sudo.
pub(crate) fn refresh_package_lists() -> Result<()> {
    apt_get(&UPDATE, &[])
}

fn apt_get(arguments: &[&str], missing: &[&str]) -> Result<()> {
    let Some(mut command) = as_root() else {
        bail!("Debian packages need root to install. Run this line, then try again:\n  {}", by_hand(missing));
    };
    // It goes on when we are killed: packages that are half installed are worse.
    command.args(["DEBIAN_FRONTEND=noninteractive", "setpriv", "--pdeathsig", "clear", "apt-get"]).args(arguments);
    eprintln!("Running apt-get {}", arguments.join(" "));
    // apt's own progress goes to stderr: stdout carries results only.
    command.stdin(Stdio::null()).stdout(std::io::stderr());
    process::passed_through(&mut command).with_context(|| format!("Cannot run apt-get {}", arguments.join(" ")))
}

/// `env` as root, to which a program and its arguments are added: directly, or through sudo
/// where it asks for no password.
pub(crate) fn as_root() -> Option<Command> {
    if geteuid().is_root() {
        return Some(Command::new("env"));
    }
    let mut command = Command::new("sudo");
    command.args(["-n", "env"]);
    sudo_works().then_some(command)
}

/// The line for somebody who may become root.
fn by_hand(missing: &[&str]) -> String {
    if missing.is_empty() {
        return "sudo apt-get update".into();
    }
    format!("sudo sh -c 'apt-get update && apt-get {} -y {}'", INSTALL.join(" "), missing.join(" "))
}

fn sudo_works() -> bool {
    let found = ["/usr/bin/sudo", "/bin/sudo"].iter().any(|path| Path::new(path).exists());
    let mut sudo = Command::new("sudo");
    sudo.args(["-n", "true"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    found && process::status(&mut sudo).is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_counts_only_installed_packages() {
        let mut listing: String = PACKAGES.iter().map(|package| format!("{package} installed\n")).collect();
        assert!(absent(&PACKAGES, &listing).is_empty());
        listing = listing.replace("bison installed", "bison config-files").replace("bc installed\n", "");
        assert_eq!(absent(&PACKAGES, &listing), ["bison", "bc"]);
    }

    #[test]
    fn removals_are_read_from_a_simulation() {
        let plan = "NOTE: This is only a simulation!\nRemv qemu-utils [1:10.0]\nInst qemu-system-x86 (1:7.2 Debian:12)\n\
                    Remv a [1]\nConf qemu-system-x86 (1:7.2 Debian:12)\n";
        assert_eq!(removals(plan), ["qemu-utils", "a"]);
        assert!(removals("Inst bc (1.07 Debian:12)\n").is_empty());
    }
}
