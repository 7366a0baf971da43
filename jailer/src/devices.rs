// SPDX-License-Identifier: Apache-2.0
//! Device nodes of the jail: those that the VMM opens, and no others.

use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::chown;

use crate::error::Error;
use crate::made::Made;
use crate::plan::Plan;

/// Path below the jail's root, major and minor number (Documentation/admin-guide/devices.txt).
const NODES: [(&str, u64, u64); 3] = [("dev/kvm", 10, 232), ("dev/net/tun", 10, 200), ("dev/urandom", 1, 9)];

/// Makes the nodes and gives them to the VMM.
pub(crate) fn make(plan: &Plan, made: &mut Made) -> Result<(), Error> {
    for (name, major, minor) in NODES {
        let path = plan.root.join(name);
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        mknod(&path, SFlag::S_IFCHR, mode, makedev(major, minor))
            .map_err(|err| Error::file("Making the device", &path)(err.into()))?;
        made.note(&path);
        chown(&path, Some(plan.uid), Some(plan.gid)).map_err(|err| Error::file("Giving away", &path)(err.into()))?;
    }
    Ok(())
}
