// SPDX-License-Identifier: Apache-2.0
//! The jail becomes the root, in a mount namespace of its own.

use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{chdir, pivot_root};

use crate::error::Error;

const NOTHING: Option<&str> = None;

/// Leaves the host's files behind: nothing of them can be reached afterwards, mounts below the jail excepted.
pub(crate) fn enter(jail: &Path) -> Result<(), Error> {
    unshare(CloneFlags::CLONE_NEWNS).map_err(Error::call("Making a mount namespace (unshare)"))?;
    mount(NOTHING, "/", NOTHING, MsFlags::MS_PRIVATE | MsFlags::MS_REC, NOTHING)
        .map_err(Error::call("Making mounts private"))?;
    // pivot_root wants a mount; callers may have mounted files into the jail.
    mount(Some(jail), jail, NOTHING, MsFlags::MS_BIND | MsFlags::MS_REC, NOTHING)
        .map_err(Error::call("Mounting the jail on itself"))?;
    mount(NOTHING, jail, NOTHING, MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_NOSUID, NOTHING)
        .map_err(Error::call("Mounting the jail without set-user-ID programs"))?;
    chdir(jail).map_err(Error::call("Changing to the jail"))?;
    // The old root lies on top of the new one afterwards (pivot_root(2)).
    pivot_root(".", ".").map_err(Error::call("Making the jail the root (pivot_root)"))?;
    umount2(".", MntFlags::MNT_DETACH).map_err(Error::call("Leaving the host's files (umount)"))?;
    chdir("/").map_err(Error::call("Changing to the jail's root"))
}

/// A procfs that has this user's own processes and no files of the host.
///
/// The kernel's account of guest memory is in /proc/self/fdinfo. A host that
/// allows no such mount, as some containers, has VMs that cannot tell.
///
/// # Errors
/// The mount was refused.
pub(crate) fn mount_proc() -> Result<(), Error> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | MsFlags::MS_RDONLY;
    mount(Some("proc"), "/proc", Some("proc"), flags, Some("hidepid=ptraceable,subset=pid"))
        .map_err(Error::call("Mounting /proc"))
}
