// SPDX-License-Identifier: Apache-2.0
//! The VM's control group.

pub(crate) mod setting;
mod v1;
mod v2;

use std::ffi::OsStr;
use std::fs;
use std::path::{Component, Path, PathBuf};

use setting::Setting;

use crate::cli::{CgroupVersion, Cli};
use crate::error::Error;
use crate::made::Made;

/// Where the host's mounts are listed.
const MOUNTS: &str = "/proc/self/mounts";

/// A control group that can be made or joined.
#[derive(Debug)]
pub(crate) enum Plan {
    /// One folder in each hierarchy that a setting is for.
    V1(Vec<v1::Group>),
    /// One folder of the unified hierarchy.
    V2(v2::Group),
}

impl Plan {
    /// What the command line asks for; None: the VM stays where its caller is.
    ///
    /// # Errors
    /// There is no such hierarchy, or the parent that was named is not there.
    pub(crate) fn new(cli: &Cli, program: &OsStr) -> Result<Option<Self>, Error> {
        let parent = cli.parent_cgroup.as_deref().unwrap_or(Path::new(program));
        if !parent.components().all(|part| matches!(part, Component::Normal(_))) {
            return Err(Error::Parent { path: parent.into() });
        }
        match (cli.cgroup_version, &cli.cgroups[..]) {
            (CgroupVersion::V1, []) => Ok(None),
            (CgroupVersion::V1, settings) => {
                v1::plan(settings, &parent.join(&cli.id)).map(|groups| Some(Plan::V1(groups)))
            }
            (CgroupVersion::V2, []) => {
                v2::existing(parent, cli.parent_cgroup.is_some()).map(|group| group.map(Plan::V2))
            }
            (CgroupVersion::V2, settings) => {
                v2::plan(settings, &parent.join(&cli.id)).map(|group| Some(Plan::V2(group)))
            }
        }
    }

    /// Makes the group, writes its settings, and moves this process into it.
    ///
    /// # Errors
    /// The kernel refused a folder, a value or the move.
    pub(crate) fn join(&self, made: &mut Made) -> Result<(), Error> {
        match self {
            Plan::V1(groups) => groups.iter().try_for_each(|group| group.join(made)),
            Plan::V2(group) => group.join(made),
        }
    }
}

fn write(path: &Path, value: &str) -> Result<(), Error> {
    fs::write(path, value).map_err(Error::file("Writing to the control group", path))
}

/// Where file systems of a type are mounted, with their options.
fn mounts(kind: &str) -> Result<Vec<(PathBuf, String)>, Error> {
    let text = fs::read_to_string(MOUNTS).map_err(Error::file("Reading", MOUNTS))?;
    Ok(mounts_in(&text, kind))
}

fn mounts_in(text: &str, kind: &str) -> Vec<(PathBuf, String)> {
    let parse = |line: &str| match line.split(' ').collect::<Vec<_>>()[..] {
        [_, place, found, options, ..] if found == kind => Some((place.into(), options.to_owned())),
        _ => None,
    };
    text.lines().filter_map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_of_a_kind_are_found() {
        let text = "sysfs /sys sysfs rw 0 0\ncgroup2 /sys/fs/cgroup cgroup2 rw,nsdelegate 0 0\n";
        assert_eq!(mounts_in(text, "cgroup2"), [("/sys/fs/cgroup".into(), "rw,nsdelegate".to_owned())]);
        assert_eq!(mounts_in(text, "cgroup"), []);
    }
}
