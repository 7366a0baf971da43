// SPDX-License-Identifier: Apache-2.0
//! A 2M-congruent mapping between two guards.
#![allow(unsafe_code)] // mmap, madvise and munmap: this module owns the address range.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::NonNull;

use crate::{Error, PMD_SIZE, Result};

/// A shared, writable mapping of a piece of a file.
///
/// ```text
///   reservation (PROT_NONE)                        ≥ 2M guard
///   |  guard ≥ 2M  |  file[offset .. offset+len]  |  guard  |
///                  ^ address ≡ offset ≡ 0 (mod 2 MiB)
/// ```
///
/// It is left out of forked children (`MADV_DONTFORK`) and core dumps (`MADV_DONTDUMP`), and goes
/// away, guards included, when dropped.
#[derive(Debug)]
pub struct Mapping {
    start: NonNull<u8>,
    len: usize,
    reservation: (NonNull<u8>, usize),
}

// SAFETY: the mapping belongs to the process, not to a thread; this type hands out its address
// only, and whoever dereferences it answers for the races.
unsafe impl Send for Mapping {}
// SAFETY: as above; no method changes the mapping through a shared reference.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `len` bytes of `file` from `offset`, both multiples of 2 MiB.
    ///
    /// # Errors
    /// [`Error::Unaligned`] for odd numbers; [`Error::Map`] if the kernel refuses, which for a
    /// secret file without CAP_IPC_LOCK is the sign of a low `RLIMIT_MEMLOCK` (EAGAIN).
    pub fn new(file: &impl AsFd, offset: u64, len: u64) -> Result<Self> {
        for value in [len, offset] {
            if !value.is_multiple_of(PMD_SIZE) {
                return Err(Error::Unaligned(value));
            }
        }
        let map_error = |source| Error::Map { size: len, source };
        let too_large = || map_error(io::Error::from_raw_os_error(libc::ENOMEM));
        let size = usize::try_from(len).map_err(|_| too_large())?;
        let offset = i64::try_from(offset).map_err(|_| too_large())?;
        if size == 0 {
            return Err(Error::Unaligned(0));
        }
        // Room for a whole guard on both sides wherever the kernel puts the reservation.
        let guards = 3 * PMD_SIZE as usize;
        let reserved = size.checked_add(guards).ok_or_else(too_large)?;
        let base = reserve(reserved).map_err(map_error)?;
        // From here on Drop gives the reservation back.
        let lead = guard_before(base.as_ptr() as usize);
        // SAFETY: lead + size < reserved, so this stays inside the reservation.
        let start = unsafe { base.add(lead) };
        let mapping = Self { start, len: size, reservation: (base, reserved) };
        mapping.fill(file.as_fd().as_raw_fd(), offset).map_err(map_error)?;
        mapping.advise(libc::MADV_DONTFORK).map_err(Error::Private)?;
        mapping.advise(libc::MADV_DONTDUMP).map_err(Error::Private)?;
        Ok(mapping)
    }

    /// Address of the first byte, a multiple of 2 MiB.
    pub fn as_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// Length in bytes, a multiple of 2 MiB and never 0.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Puts the file in the middle of the reservation.
    fn fill(&self, fd: i32, offset: i64) -> io::Result<()> {
        // SAFETY: MAP_FIXED replaces pages of our own reservation only, which nothing refers to.
        let at = unsafe {
            libc::mmap(
                self.start.as_ptr().cast(),
                self.len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_NORESERVE | libc::MAP_FIXED,
                fd,
                offset,
            )
        };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// Asks for 4 KiB pages from now on, for what is not populated yet.
    ///
    /// # Errors
    /// [`Error::SmallPages`] on a kernel without transparent huge pages.
    pub fn use_small_pages(&self) -> Result<()> {
        self.advise(libc::MADV_NOHUGEPAGE).map_err(Error::SmallPages)
    }

    fn advise(&self, advice: i32) -> io::Result<()> {
        // SAFETY: the range is ours and the advices above do not change its contents.
        if unsafe { libc::madvise(self.start.as_ptr().cast(), self.len, advice) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        let (base, len) = self.reservation;
        // SAFETY: the reservation is ours alone, and its users borrow this object.
        unsafe { libc::munmap(base.as_ptr().cast(), len) };
    }
}

/// Bytes from `base` to the first 2M boundary that leaves a whole guard before it.
fn guard_before(base: usize) -> usize {
    let pmd = PMD_SIZE as usize;
    (base + pmd).next_multiple_of(pmd) - base
}

/// Reserves address space that faults on any access.
fn reserve(len: usize) -> io::Result<NonNull<u8>> {
    // SAFETY: a fresh anonymous mapping at an address of the kernel's choice overwrites nothing.
    let base = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            len,
            libc::PROT_NONE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            -1,
            0,
        )
    };
    if base == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(base.cast()).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::FromRawFd;

    fn memfd(len: u64) -> File {
        // SAFETY: the name is a C string and the flags are plain.
        let fd = unsafe { libc::memfd_create(c"mapping-test".as_ptr(), libc::MFD_CLOEXEC) };
        assert!(fd >= 0);
        // SAFETY: a fresh descriptor that nobody else has.
        let file = unsafe { File::from_raw_fd(fd) };
        file.set_len(len).unwrap();
        file
    }

    #[test]
    fn mapping_is_congruent_and_guarded() {
        let file = memfd(8 << 20);
        let map = Mapping::new(&file, 2 << 20, 4 << 20).unwrap();
        assert_eq!(map.as_ptr() as u64 % PMD_SIZE, 0);
        let (base, len) = map.reservation;
        let before = map.as_ptr() as u64 - base.as_ptr() as u64;
        let after = len as u64 - before - map.len() as u64;
        assert!(before >= PMD_SIZE && after > 0, "{before:#x} {after:#x}");
    }

    #[test]
    fn mapping_write_reaches_file_at_its_offset() {
        use std::os::unix::fs::FileExt;
        let file = memfd(4 << 20);
        let map = Mapping::new(&file, 2 << 20, 2 << 20).unwrap();
        // SAFETY: the byte lies in the mapping, which lives.
        unsafe { map.as_ptr().write_volatile(0x5a) };
        let mut byte = [0];
        file.read_exact_at(&mut byte, 2 << 20).unwrap();
        assert_eq!(byte, [0x5a]);
    }

    #[test]
    fn mapping_odd_offset_or_empty_is_refused() {
        let file = memfd(4 << 20);
        assert!(Mapping::new(&file, 4096, 2 << 20).is_err());
        assert!(Mapping::new(&file, 0, 4096).is_err());
        assert!(Mapping::new(&file, 0, 0).is_err());
    }
}
