//! What the kernel says of another process's secret memory, in `/proc/PID/fdinfo`.

use std::fs;

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
