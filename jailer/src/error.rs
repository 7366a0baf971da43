// SPDX-License-Identifier: Apache-2.0
//! Why nothing was started.

use std::io;
use std::path::PathBuf;

use nix::errno::Errno;

/// What went wrong, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("Only root can build a jail; run this as root or with sudo")]
    NotRoot,
    #[error("The program {path:?} cannot be used; --exec-file names a file that can be read")]
    ExecFile { path: PathBuf, source: io::Error },
    #[error("{path:?} is {what}; --exec-file names a statically linked x86-64 program")]
    Executable { path: PathBuf, what: &'static str },
    #[error(
        "{path:?} needs the dynamic loader {loader}, which a jail does not have; build it with \
         RUSTFLAGS=\"-C target-feature=+crt-static\" or use the static one"
    )]
    Dynamic { path: PathBuf, loader: String },
    #[error("The folder of all jails, {path:?}, cannot be used; --chroot-base-dir names another")]
    Base { path: PathBuf, source: io::Error },
    #[error("The jail {path:?} has been used before; remove it, or choose another --id")]
    Used { path: PathBuf },
    #[error("The jail {path:?} leads through a symbolic link or a file; remove what is in the way")]
    Folder { path: PathBuf },
    #[error("{kind} {id} cannot be taken, as this user namespace does not have it; see /proc/self/{kind}_map")]
    Identity { kind: &'static str, id: u32 },
    #[error("The network namespace {path:?} cannot be joined; `ip netns list` shows those that there are")]
    Netns { path: PathBuf, source: io::Error },
    #[error("There are no control groups of version {version}; --cgroup-version {other} may be the one of this host")]
    NoCgroups { version: u8, other: u8 },
    #[error("The host has no control groups of version {version} with the controller {controller:?}; see {see}")]
    NoController { version: u8, controller: String, see: &'static str },
    #[error("The host's kernel has no PID namespaces; leave --new-pid-ns out")]
    NoPidNamespaces,
    #[error("The control group {path:?} does not exist; create it, or leave --parent-cgroup out")]
    NoParent { path: PathBuf },
    #[error("--parent-cgroup {path:?} is not a relative path below the root of control groups")]
    Parent { path: PathBuf },
    #[error("{what} {path:?} failed")]
    File { what: &'static str, path: PathBuf, source: io::Error },
    #[error("The limit {name} cannot be {value}, which is above the one of this process; ask for less")]
    Limit { name: &'static str, value: u64, source: Errno },
    #[error("{call} failed")]
    Call { call: &'static str, source: Errno },
}

impl Error {
    /// An operation on a file that failed.
    pub(crate) fn file(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Error::File { what, path, source }
    }

    /// A system call that failed.
    pub(crate) fn call(call: &'static str) -> impl FnOnce(Errno) -> Self {
        move |source| Error::Call { call, source }
    }
}
