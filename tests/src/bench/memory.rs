// SPDX-License-Identifier: Apache-2.0
//! Memory to measure: mapped 2 MiB-aligned, filled, used by a guest, given back.
#![allow(unsafe_code)] // Secret memory and anonymous huge pages are used by address.

use std::num::NonZeroUsize;
use std::ptr::NonNull;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous, munmap};
use secretmem::{Mapping, Mode, SecretFile, memlock};

use crate::host::direct_map::meminfo_bytes;

const PAGE_SIZE: usize = 4096;
const PMD_SIZE: usize = secretmem::PMD_SIZE as usize;

/// Where memory comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MemoryKind {
    /// Anonymous memory in transparent huge pages: the measure of the others.
    Thp,
    /// Secret memory, in 2 MiB folios where the kernel has them.
    Secret,
    /// Secret memory of the boot pool.
    Pool,
}

impl MemoryKind {
    /// As it is called on the command line and in rows.
    pub fn name(self) -> &'static str {
        match self {
            MemoryKind::Thp => "thp",
            MemoryKind::Secret => "secret",
            MemoryKind::Pool => "pool",
        }
    }

    /// Why this host cannot give `bytes` of it, if that is so.
    ///
    /// # Errors
    /// The host does not say what it has.
    pub fn missing(self, bytes: u64) -> Result<Option<String>> {
        if self != MemoryKind::Pool {
            return Ok(None);
        }
        Ok(match meminfo_bytes("SecretPoolTotal:")? {
            None => Some("not in this kernel".into()),
            Some(have) if have < bytes => Some(format!("the pool has {} MiB", have >> 20)),
            Some(_) => None,
        })
    }
}

/// A writable mapping. Dropping it gives everything back before it returns.
pub struct Memory(Area);

enum Area {
    Secret { mapping: Mapping, file: SecretFile },
    Thp { start: NonNull<u8>, length: usize, reservation: (NonNull<u8>, usize) },
}

impl Memory {
    /// Maps `bytes`, a multiple of 2 MiB; nothing is allocated yet.
    ///
    /// # Errors
    /// The kernel refuses, or RLIMIT_MEMLOCK is too low and cannot be raised.
    pub fn map(backing: MemoryKind, bytes: u64) -> Result<Self> {
        if backing == MemoryKind::Thp {
            return map_thp(usize::try_from(bytes)?);
        }
        memlock::make_room(bytes)?;
        let file = secret_file(backing, bytes)?;
        let mapping = Mapping::new(&file, 0, bytes)?;
        Ok(Memory(Area::Secret { mapping, file }))
    }

    /// First address, a multiple of 2 MiB.
    pub fn as_ptr(&self) -> *mut u8 {
        match &self.0 {
            Area::Secret { mapping, .. } => mapping.as_ptr(),
            Area::Thp { start, .. } => start.as_ptr(),
        }
    }

    /// Bytes.
    pub fn size(&self) -> usize {
        match &self.0 {
            Area::Secret { mapping, .. } => mapping.len(),
            Area::Thp { length, .. } => *length,
        }
    }

    /// Allocates all of it, with `fallocate(2)` where the memory is a file that takes it, and touches every page.
    ///
    /// # Errors
    /// The kernel has not so much.
    pub fn fill(&self) -> Result<()> {
        if let Area::Secret { file, .. } = &self.0 {
            match file.populate(0, file.size()) {
                // Only the series' secret files take fallocate(2).
                Err(secretmem::Error::Populate { source, .. })
                    if matches!(source.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENODEV)) => {}
                result => result?,
            }
        }
        for offset in (0..self.size()).step_by(PAGE_SIZE) {
            // SAFETY: the offset lies inside the mapping, which is writable; no Rust object is there.
            unsafe { self.as_ptr().add(offset).write_volatile(1) };
        }
        Ok(())
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if let Area::Thp { reservation: (base, length), .. } = self.0 {
            // SAFETY: the reservation is ours, has this length, and whoever used it borrowed this object.
            let _ = unsafe { munmap(base.cast(), length) };
        }
    }
}

fn map_thp(length: usize) -> Result<Memory> {
    let reserved = NonZeroUsize::new(length + PMD_SIZE).context("No memory asked for")?;
    let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE;
    // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours.
    let base = unsafe { mmap_anonymous(None, reserved, access, flags) }.context("Cannot map anonymous memory")?;
    let base: NonNull<u8> = base.cast();
    let lead = base.as_ptr().align_offset(PMD_SIZE);
    // SAFETY: lead < 2 MiB, so that start and length stay inside the reservation.
    let start = unsafe { base.add(lead) };
    let memory = Memory(Area::Thp { start, length, reservation: (base, reserved.get()) });
    // SAFETY: the range is ours, and the advice does not change its contents.
    unsafe { madvise(start.cast(), length, MmapAdvise::MADV_HUGEPAGE) }.context("This kernel has no huge pages")?;
    Ok(memory)
}

fn secret_file(backing: MemoryKind, bytes: u64) -> secretmem::Result<SecretFile> {
    if backing == MemoryKind::Pool {
        return SecretFile::create(bytes, Mode::POOL);
    }
    match SecretFile::create(bytes, Mode::HUGE) {
        // Without the series secret memory has no modes.
        Err(secretmem::Error::UnknownMode(_)) => SecretFile::create(bytes, Mode::empty()),
        result => result,
    }
}

/// Takes and gives back a little, so that what only the first use costs is paid.
///
/// # Errors
/// As [`Memory::map`] and [`Memory::fill`].
pub fn warm_up(backing: MemoryKind) -> Result<()> {
    let memory = Memory::map(backing, 8 * secretmem::PMD_SIZE)?;
    memory.fill()?;
    ensure!(memory.as_ptr().addr().is_multiple_of(PMD_SIZE), "The memory is not aligned to 2 MiB");
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn memory_thp_is_aligned_and_writable_to_its_end() {
        let memory = Memory::map(MemoryKind::Thp, 3 * secretmem::PMD_SIZE).unwrap();
        memory.fill().unwrap();
        assert!(memory.as_ptr().addr().is_multiple_of(PMD_SIZE));
        assert_eq!(memory.size(), 3 * PMD_SIZE);
    }
}
