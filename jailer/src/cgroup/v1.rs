// SPDX-License-Identifier: Apache-2.0
//! Control groups of version 1: one hierarchy a controller.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Setting, mounts, write};
use crate::error::Error;
use crate::made::Made;

/// The VM's folder in one hierarchy.
#[derive(Debug)]
pub(crate) struct Group {
    base: PathBuf,
    path: PathBuf,
    settings: Vec<Setting>,
}

/// One group for each hierarchy that a setting is for.
///
/// # Errors
/// The host has none of version 1, or none with that controller.
pub(super) fn plan(settings: &[Setting], name: &Path) -> Result<Vec<Group>, Error> {
    let mounts = mounts("cgroup")?;
    if mounts.is_empty() {
        return Err(Error::NoCgroups { version: 1, other: 2 });
    }
    let mut groups: Vec<Group> = Vec::new();
    for setting in settings {
        let has = |options: &str| options.split(',').any(|option| option == setting.controller());
        let (base, _) = mounts
            .iter()
            .find(|(_, options)| has(options))
            .ok_or_else(|| setting.has_no_controller(1, "/proc/cgroups, or try --cgroup-version 2"))?;
        match groups.iter_mut().find(|group| group.base == *base) {
            Some(group) => group.settings.push(setting.clone()),
            None => {
                groups.push(Group { base: base.clone(), path: base.join(name), settings: vec![setting.clone()] });
            }
        }
    }
    Ok(groups)
}

impl Group {
    pub(super) fn join(&self, made: &mut Made) -> Result<(), Error> {
        made.folders(&self.path)?;
        self.inherit("cpuset.cpus")?;
        self.inherit("cpuset.mems")?;
        self.settings.iter().try_for_each(|setting| setting.write(&self.path))?;
        write(&self.path.join("tasks"), &std::process::id().to_string())
    }

    /// A group without CPUs or memory nodes takes no process: an empty one gets its parent's, from the top down.
    fn inherit(&self, name: &str) -> Result<(), Error> {
        if !self.base.join(name).exists() {
            return Ok(());
        }
        let mut groups: Vec<_> = self.path.ancestors().take_while(|path| *path != self.base).collect();
        groups.reverse();
        let mut above = self.base.as_path();
        for group in groups {
            let file = group.join(name);
            let mine = fs::read_to_string(&file).map_err(Error::file("Reading", &file))?;
            if mine.trim().is_empty() {
                let file = above.join(name);
                let value = fs::read_to_string(&file).map_err(Error::file("Reading", &file))?;
                write(&group.join(name), value.trim())?;
            }
            above = group;
        }
        Ok(())
    }
}
