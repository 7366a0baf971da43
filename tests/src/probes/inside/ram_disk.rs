// SPDX-License-Identifier: Apache-2.0
//! The disk in memory that probes write to: a real block device, so that O_DIRECT takes the caller's own pages.

use std::fs::File;
use std::os::unix::fs::{FileExt, OpenOptionsExt};

use anyhow::{Context, Result};
use secretvmm_canary::PAGE_SIZE;

use crate::area::Area;

/// Its device; the other, ram0, is for swap.
pub(super) const PATH: &str = "/dev/ram1";

/// Wipes what an earlier probe may have left.
pub(super) fn blank() -> Result<()> {
    let disk = File::options().write(true).open(PATH).with_context(|| format!("No {PATH}; the lab kernel has it"))?;
    disk.write_all_at(&[0; PAGE_SIZE], 0)?;
    Ok(disk.sync_all()?)
}

/// Its first page, past every cache.
pub(super) fn first_page() -> Result<[u8; PAGE_SIZE]> {
    let disk = File::options().read(true).custom_flags(libc::O_DIRECT).open(PATH)?;
    let area = Area::ordinary(PAGE_SIZE)?;
    area.fill_from(&disk, 0)?;
    let mut page = [0; PAGE_SIZE];
    area.get(0, &mut page);
    Ok(page)
}
