// SPDX-License-Identifier: Apache-2.0
//! `pidfd_getfd(2)`: takes the descriptors of the VMM's memory files and maps them.
#![allow(unsafe_code)] // Mappings of somebody else's files.

use std::fs::File;
use std::num::NonZeroUsize;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use nix::unistd::{Whence, lseek};
use secretvmm_canary::PAGE_SIZE;

use super::{ByPolicy, Tally, Target};
use crate::sys;

pub(super) fn run(target: &Target) -> Result<Tally> {
    let process = sys::pidfd_open(target.pid).context("pidfd_open failed")?;
    let mut tally = Tally::default();
    for number in target.ram_descriptors()? {
        let file = sys::pidfd_getfd(&process, number).map_err(ByPolicy::or_error).context("pidfd_getfd failed")?;
        let size = file.metadata().context("Cannot ask for a stolen file's size")?.len();
        read(&file, size, target, &mut tally)?;
    }
    Ok(tally)
}

/// Maps the file and reads the pages that it holds.
fn read(file: &File, size: u64, target: &Target, tally: &mut Tally) -> Result<()> {
    let length = NonZeroUsize::new(usize::try_from(size)?).context("An empty file")?;
    // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours.
    let base = match unsafe { mmap(None, length, ProtFlags::PROT_READ, MapFlags::MAP_SHARED, file, 0) } {
        Ok(base) => base,
        Err(errno) => {
            tally.refusal(errno);
            return Ok(());
        }
    };
    let mut page = [0; PAGE_SIZE];
    let mut offset = 0;
    while let Some(next) = next_data(file, offset, size)? {
        // SAFETY: next + PAGE_SIZE lies inside the mapping; the guest may write there, so the copy is raw.
        unsafe {
            base.as_ptr().cast::<u8>().add(usize::try_from(next)?).copy_to_nonoverlapping(page.as_mut_ptr(), PAGE_SIZE)
        };
        tally.page(target.canary.seed, &page);
        offset = next + PAGE_SIZE as u64;
    }
    // SAFETY: the mapping is ours and nothing refers to it any more.
    unsafe { munmap(base, length.get()) }.context("Cannot unmap the file")
}

/// The first page at or after `offset` that is no hole, so that reading allocates nothing. A file that cannot tell has
/// no holes.
fn next_data(file: &File, offset: u64, size: u64) -> Result<Option<u64>> {
    if offset >= size {
        return Ok(None);
    }
    match lseek(file, i64::try_from(offset)?, Whence::SeekData) {
        Ok(next) => Ok(Some(u64::try_from(next)?)),
        Err(Errno::ENXIO) => Ok(None),
        Err(_) => Ok(Some(offset)),
    }
}
