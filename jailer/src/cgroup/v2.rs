// SPDX-License-Identifier: Apache-2.0
//! Control groups of version 2: the unified hierarchy.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Setting, mounts, write};
use crate::error::Error;
use crate::made::Made;

/// What files that need no controller begin with.
const OF_EVERY_GROUP: &str = "cgroup";

/// The VM's folder, or one that was there.
#[derive(Debug)]
pub(crate) struct Group {
    base: PathBuf,
    path: PathBuf,
    settings: Vec<Setting>,
}

fn base() -> Result<PathBuf, Error> {
    let found = mounts("cgroup2")?.into_iter().next();
    found.map(|(place, _)| place).ok_or(Error::NoCgroups { version: 2, other: 1 })
}

/// A group of the VM's own.
///
/// # Errors
/// The host has no version 2, or not that controller in it.
pub(super) fn plan(settings: &[Setting], name: &Path) -> Result<Group, Error> {
    let base = base()?;
    let path = base.join("cgroup.controllers");
    let there = fs::read_to_string(&path).map_err(Error::file("Reading", path))?;
    let has = |name: &str| name == OF_EVERY_GROUP || there.split_whitespace().any(|controller| controller == name);
    if let Some(setting) = settings.iter().find(|setting| !has(setting.controller())) {
        return Err(setting.has_no_controller(2, "cgroup.controllers in the root of control groups"));
    }
    Ok(Group { path: base.join(name), base, settings: settings.to_vec() })
}

/// The group that the caller has made; one that was not named need not be there.
pub(super) fn existing(parent: &Path, named: bool) -> Result<Option<Group>, Error> {
    let base = match base() {
        Err(_) if !named => return Ok(None),
        base => base?,
    };
    let path = base.join(parent);
    match (path.is_dir(), named) {
        (true, _) => Ok(Some(Group { base, path, settings: Vec::new() })),
        (false, true) => Err(Error::NoParent { path }),
        (false, false) => Ok(None),
    }
}

impl Group {
    pub(super) fn join(&self, made: &mut Made) -> Result<(), Error> {
        made.folders(&self.path)?;
        for setting in self.settings.iter().filter(|setting| setting.controller() != OF_EVERY_GROUP) {
            self.enable(setting.controller())?;
        }
        self.settings.iter().try_for_each(|setting| setting.write(&self.path))?;
        write(&self.path.join("cgroup.procs"), &std::process::id().to_string())
    }

    /// A controller is there below a group when that group and all above say so.
    fn enable(&self, controller: &str) -> Result<(), Error> {
        let mut above: Vec<_> = self.path.ancestors().skip(1).take_while(|path| path.starts_with(&self.base)).collect();
        above.reverse();
        above.into_iter().try_for_each(|group| write(&group.join("cgroup.subtree_control"), &format!("+{controller}")))
    }
}
