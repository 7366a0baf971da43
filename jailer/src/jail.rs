// SPDX-License-Identifier: Apache-2.0
//! The folder of the jail and what is in it.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};

use nix::unistd::{chown, fchown};

use crate::devices;
use crate::error::Error;
use crate::made::Made;
use crate::plan::Plan;

/// Folders of the jail's own, below its root; `proc` is where a procfs comes.
const FOLDERS: [&str; 5] = ["", "dev", "dev/net", "run", "proc"];

/// Makes the folders, a copy of the program and the devices, and gives the VMM what it may write.
///
/// The program is a copy, so that no two VMs share its pages.
///
/// # Errors
/// The system's, with the file; `made` knows what has been made until then.
pub(crate) fn build(plan: &Plan, made: &mut Made) -> Result<(), Error> {
    for name in FOLDERS {
        let folder = if name.is_empty() { plan.root.clone() } else { plan.root.join(name) };
        made.folders(&folder)?;
        fs::set_permissions(&folder, Permissions::from_mode(0o700))
            .map_err(Error::file("Setting the mode of", &folder))?;
        chown(&folder, Some(plan.uid), Some(plan.gid))
            .map_err(|err| Error::file("Giving away", &folder)(err.into()))?;
    }
    copy_program(plan, made)?;
    devices::make(plan, made)
}

fn copy_program(plan: &Plan, made: &mut Made) -> Result<(), Error> {
    let path = plan.root.join(&plan.name);
    let mut source = File::open(&plan.program).map_err(Error::file("Opening", &plan.program))?;
    let mut copy = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o500)
        .open(&path)
        .map_err(Error::file("Creating the copy of the program", &path))?;
    made.note(&path);
    io::copy(&mut source, &mut copy).map_err(Error::file("Copying the program to", &path))?;
    fchown(&copy, Some(plan.uid), Some(plan.gid)).map_err(|err| Error::file("Giving away", &path)(err.into()))
}
