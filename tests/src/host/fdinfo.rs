// SPDX-License-Identifier: Apache-2.0
//! What the kernel says of a process's secret memory, in `/proc/PID/fdinfo`.

use std::fs::{self, File};

use anyhow::{Context, Result, bail};
use secretmem::FdInfo;

/// The fdinfo of the process's secret memory, all its descriptors added up.
///
/// # Errors
/// The process is gone, or none of its descriptors is secret memory on a patched kernel.
pub fn of_process(pid: u32) -> Result<FdInfo> {
    let folder = format!("/proc/{pid}/fdinfo");
    let mut sum: Option<FdInfo> = None;
    for entry in fs::read_dir(&folder).with_context(|| format!("Cannot list {folder}"))? {
        // A descriptor may close between listing and reading.
        let Ok(text) = fs::read_to_string(entry?.path()) else { continue };
        if let Some(info) = FdInfo::parse(&text) {
            sum = Some(sum.map_or(info, |sum| plus(sum, info)));
        }
    }
    match sum {
        Some(info) => Ok(info),
        None => bail!("No descriptor of process {pid} is secret memory that this kernel reports on"),
    }
}

/// The fdinfo of one file of our own.
///
/// # Errors
/// It is no secret memory on a patched kernel.
pub fn of_file(file: &File) -> Result<FdInfo> {
    let info = FdInfo::of(file).context("Cannot read our own fdinfo")?;
    info.context("Our file is no secret memory that this kernel reports on")
}

fn plus(one: FdInfo, other: FdInfo) -> FdInfo {
    FdInfo {
        flags: one.flags & other.flags,
        pages: one.pages + other.pages,
        huge: one.huge + other.huge,
        pool: one.pool + other.pool,
        direct_mapped: one.direct_mapped + other.direct_mapped,
        aliases: one.aliases + other.aliases,
    }
}
