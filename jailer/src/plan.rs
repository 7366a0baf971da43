// SPDX-License-Identifier: Apache-2.0
//! What is to be done, looked at before anything is done.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use nix::sys::statfs::{FsType, fstatfs};
use nix::unistd::{Gid, Uid, geteuid};

use crate::cgroup;
use crate::cli::Cli;
use crate::error::Error;
use crate::executable;
use crate::limits::{self, Limit};

/// The file system of namespaces (`<linux/magic.h>`, `NSFS_MAGIC`).
const NSFS: FsType = FsType(0x6e73_6673);
/// Which group may use the boot pool of secret memory, on a host that has one.
const POOL_GROUP: &str = "/proc/sys/vm/secretmem_pool_group";

/// A jail that can be built, as far as can be seen from here.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    /// Name of the VM.
    pub id: &'a str,
    /// The program, without symbolic links.
    pub program: PathBuf,
    /// Its file name, which names the jail's folder and the program in it.
    pub name: OsString,
    /// The jail as the host sees it.
    pub root: PathBuf,
    /// Who the VMM is.
    pub uid: Uid,
    /// Its group.
    pub gid: Gid,
    /// The group of the boot pool, if there is one besides root's.
    pub pool: Option<Gid>,
    /// Control group, if one was asked for.
    pub cgroup: Option<cgroup::Plan>,
    /// Network namespace to join.
    pub netns: Option<File>,
    /// Limits asked for.
    pub limits: &'a [Limit],
    /// Run by itself.
    pub daemonize: bool,
    /// Run in a PID namespace of its own.
    pub new_pid_ns: bool,
    /// What the VMM gets besides.
    pub arguments: &'a [OsString],
}

impl<'a> Plan<'a> {
    /// Looks at everything that the command line names.
    ///
    /// # Errors
    /// Whatever would keep the VMM from starting; nothing has been made.
    pub(crate) fn new(cli: &'a Cli) -> Result<Self, Error> {
        if !geteuid().is_root() {
            return Err(Error::NotRoot);
        }
        let program = program(&cli.exec_file)?;
        let name = program.file_name().unwrap_or(OsStr::new("secretvmm")).to_owned();
        let root = base(&cli.chroot_base_dir)?.join(&name).join(&cli.id).join("root");
        check_folders(&root)?;
        check_identity("uid", cli.uid)?;
        check_identity("gid", cli.gid)?;
        if cli.new_pid_ns && !Path::new("/proc/self/ns/pid").exists() {
            return Err(Error::NoPidNamespaces);
        }
        limits::check(&cli.resource_limits)?;
        let cgroup = cgroup::Plan::new(cli, &name)?;
        Ok(Plan {
            id: &cli.id,
            program,
            name,
            root,
            uid: cli.uid.into(),
            gid: cli.gid.into(),
            pool: pool_group(),
            cgroup,
            netns: cli.netns.as_deref().map(netns).transpose()?,
            limits: &cli.resource_limits,
            daemonize: cli.daemonize,
            new_pid_ns: cli.new_pid_ns,
            arguments: &cli.arguments,
        })
    }

    /// The file with the VMM's process id, in the jail.
    pub(crate) fn pid_file(&self) -> OsString {
        let mut name = self.name.clone();
        name.push(".pid");
        name
    }
}

fn program(path: &Path) -> Result<PathBuf, Error> {
    let fail = |source| Error::ExecFile { path: path.into(), source };
    let program = path.canonicalize().map_err(fail)?;
    if !fs::metadata(&program).map_err(fail)?.is_file() {
        return Err(Error::Executable { path: program, what: "not a regular file" });
    }
    executable::check(&program, File::open(&program).map_err(fail)?)?;
    Ok(program)
}

/// The folder of all jails without symbolic links; it need not be there yet.
fn base(path: &Path) -> Result<PathBuf, Error> {
    match path.canonicalize() {
        Err(err) if err.kind() == io::ErrorKind::NotFound => std::path::absolute(path),
        other => other,
    }
    .map_err(|source| Error::Base { path: path.into(), source })
}

/// The folder of the jail may be there, with what the caller put in; the jail's own files may not.
fn check_folders(root: &Path) -> Result<(), Error> {
    for folder in root
        .ancestors()
        .take(3)
        .chain(["dev", "dev/net", "run", "proc"].map(|name| root.join(name)).iter().map(PathBuf::as_path))
    {
        match fs::symlink_metadata(folder) {
            Ok(found) if !found.is_dir() => return Err(Error::Folder { path: folder.into() }),
            _ => {}
        }
    }
    match root.join("dev/kvm").exists() {
        true => Err(Error::Used { path: root.into() }),
        false => Ok(()),
    }
}

/// Whether this user namespace has the user or group.
fn check_identity(kind: &'static str, id: u32) -> Result<(), Error> {
    // A kernel without user namespaces has all of them: -1 is none.
    let text = fs::read_to_string(format!("/proc/self/{kind}_map")).unwrap_or("0 0 4294967295".to_owned());
    let has = |line: &str| {
        let mut numbers = line.split_whitespace().map(|word| word.parse::<u64>().unwrap_or(0));
        let (first, _, count) = (numbers.next().unwrap_or(0), numbers.next(), numbers.next().unwrap_or(0));
        (first..first + count).contains(&u64::from(id))
    };
    match text.lines().any(has) {
        true => Ok(()),
        false => Err(Error::Identity { kind, id }),
    }
}

fn netns(path: &Path) -> Result<File, Error> {
    let fail = |source| Error::Netns { path: path.into(), source };
    let file = File::open(path).map_err(fail)?;
    match fstatfs(&file).map_err(|err| fail(err.into()))?.filesystem_type() {
        NSFS => Ok(file),
        _ => Err(fail(io::Error::other("not a namespace"))),
    }
}

/// The group that the operator has given the boot pool to; root's needs no membership.
fn pool_group() -> Option<Gid> {
    let group: u32 = fs::read_to_string(POOL_GROUP).ok()?.trim().parse().ok()?;
    (group != 0 && group != u32::MAX).then(|| Gid::from_raw(group))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn jail_that_was_used_is_refused_and_a_prepared_one_is_not() {
        let there = tempfile::tempdir().unwrap();
        let root = there.path().join("vmm/id/root");
        check_folders(&root).unwrap();
        fs::create_dir_all(root.join("dev")).unwrap();
        fs::write(root.join("vmlinux"), "").unwrap();
        check_folders(&root).unwrap();
        fs::write(root.join("dev/kvm"), "").unwrap();
        assert!(matches!(check_folders(&root), Err(Error::Used { .. })));
    }

    #[test]
    fn symbolic_link_on_the_way_is_refused() {
        let there = tempfile::tempdir().unwrap();
        fs::create_dir_all(there.path().join("vmm/id/root")).unwrap();
        std::os::unix::fs::symlink("/etc", there.path().join("vmm/id/root/dev")).unwrap();
        assert!(matches!(check_folders(&there.path().join("vmm/id/root")), Err(Error::Folder { .. })));
    }

    #[test]
    fn user_that_cannot_be_is_refused() {
        check_identity("uid", 0).unwrap();
        assert!(matches!(check_identity("uid", u32::MAX), Err(Error::Identity { .. })));
    }

    #[test]
    fn file_that_is_no_namespace_is_refused() {
        assert!(netns(Path::new("/etc/passwd")).unwrap_err().to_string().contains("ip netns list"));
        netns(Path::new("/proc/self/ns/net")).unwrap();
    }
}
