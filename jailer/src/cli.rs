// SPDX-License-Identifier: Apache-2.0
//! The command line, as Firecracker's jailer takes it (its docs/jailer.md).

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use crate::cgroup::setting::Setting;
use crate::limits::Limit;

const AFTER_HELP: &str = "\
Resource limits (--resource-limit NAME=VALUE):
  fsize    bytes of the largest file that the VMM may write
  no-file  number of descriptors; 2048 if nothing is said
  memlock  bytes of locked memory, which guest memory is; as much as may be if nothing is said

The jail is CHROOT_BASE_DIR/NAME/ID/root, where NAME is the file name of EXEC_FILE.
It has the program, /dev/kvm, /dev/net/tun, /dev/urandom, /run and a /proc of its own processes.
Kernels, disks and sockets are named as the VMM sees them, from the root of the jail.

Exit codes:
  0  the VMM was started and runs by itself (--daemonize, --new-pid-ns);
     otherwise the exit code is the VMM's own
  1  nothing was started; the line on standard error says why and what to do
  2  wrong usage";

/// Start secretvmm in a jail of its own
///
/// The VMM gets a root folder, a mount namespace, a user and limits of its own before it starts.
/// Everything behind -- is for the VMM.
#[derive(Debug, Parser)]
#[command(name = "secretvmm-jailer", version, after_help = AFTER_HELP)]
pub(crate) struct Cli {
    /// Name of the VM: letters, digits and hyphens, at most 64
    #[arg(long, value_name = "ID", value_parser = parse_id)]
    pub id: String,
    /// The program to start, statically linked; it is copied into the jail
    #[arg(long, value_name = "PATH")]
    pub exec_file: PathBuf,
    /// User that the VMM runs as
    #[arg(long, value_name = "UID")]
    pub uid: u32,
    /// Group that the VMM runs as
    #[arg(long, value_name = "GID")]
    pub gid: u32,
    /// Folder of all jails
    #[arg(long, value_name = "PATH", default_value = "/srv/jailer")]
    pub chroot_base_dir: PathBuf,
    /// A file of the VM's control group and what to write to it, such as memory.max=1G; may be repeated
    #[arg(long = "cgroup", value_name = "FILE=VALUE", value_parser = Setting::parse)]
    pub cgroups: Vec<Setting>,
    /// Which control groups --cgroup is for
    #[arg(long, value_name = "VERSION", value_enum, default_value = "1")]
    pub cgroup_version: CgroupVersion,
    /// Control group in which the VM gets its own; the program's file name if nothing is said
    #[arg(long, value_name = "RELATIVE_PATH")]
    pub parent_cgroup: Option<PathBuf>,
    /// Network namespace to join, a file such as /run/netns/NAME
    #[arg(long, value_name = "PATH")]
    pub netns: Option<PathBuf>,
    /// Limit of a resource, see below; may be repeated
    #[arg(long = "resource-limit", value_name = "NAME=VALUE", value_parser = Limit::parse)]
    pub resource_limits: Vec<Limit>,
    /// Run in a session of its own, with /dev/null as standard input, output and error
    #[arg(long)]
    pub daemonize: bool,
    /// Run as the first process of a new PID namespace
    #[arg(long)]
    pub new_pid_ns: bool,
    /// Arguments for the VMM, which gets --id besides
    #[arg(last = true, value_name = "ARGUMENTS")]
    pub arguments: Vec<OsString>,
}

/// Which hierarchy of control groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum CgroupVersion {
    /// One hierarchy a controller.
    #[value(name = "1")]
    V1,
    /// The unified hierarchy.
    #[value(name = "2")]
    V2,
}

fn parse_id(text: &str) -> Result<String, String> {
    let fits = (1..=64).contains(&text.len());
    match fits && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        true => Ok(text.to_owned()),
        false => Err("an id has 1 to 64 letters, digits and hyphens".to_owned()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    const LEAST: [&str; 9] =
        ["secretvmm-jailer", "--id", "a-1", "--exec-file", "/bin/vmm", "--uid", "1000", "--gid", "1000"];

    fn parse(more: &[&str]) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(LEAST.iter().chain(more))
    }

    #[test]
    fn least_command_line_has_firecrackers_defaults() {
        let cli = parse(&[]).unwrap();
        assert_eq!(cli.chroot_base_dir, PathBuf::from("/srv/jailer"));
        assert_eq!((cli.cgroup_version, cli.parent_cgroup), (CgroupVersion::V1, None));
        assert!(!cli.daemonize && !cli.new_pid_ns && cli.arguments.is_empty());
    }

    #[test]
    fn what_is_behind_the_dashes_is_for_the_vmm() {
        let cli = parse(&["--daemonize", "--", "--config-file", "vm.json", "--daemonize"]).unwrap();
        assert!(cli.daemonize);
        assert_eq!(cli.arguments, ["--config-file", "vm.json", "--daemonize"]);
    }

    /// `UPDATE=1` writes it.
    #[test]
    fn man_page_is_of_this_command_line() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../resources/man/secretvmm-jailer.1");
        let mut page = Vec::new();
        clap_mangen::Man::new(Cli::command()).render(&mut page).unwrap();
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(path, &page).unwrap();
        }
        assert!(std::fs::read(path).unwrap() == page, "UPDATE=1 cargo test -p secretvmm-jailer man_page");
    }

    #[test]
    fn ids_that_are_no_folder_of_one_name_are_refused() {
        for id in ["", "..", "a/b", "a b", "a_b", &"a".repeat(65)] {
            let line = ["j", "--id", id, "--exec-file", "/e", "--uid", "1", "--gid", "1"];
            assert!(Cli::try_parse_from(line).is_err(), "{id:?}");
        }
    }
}
