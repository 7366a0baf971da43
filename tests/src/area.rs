// SPDX-License-Identifier: Apache-2.0
//! A mapping that is used by its address, as guests and other processes use it: no reference of Rust's points there.
#![allow(unsafe_code)] // It owns an address range.

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::NonNull;

use nix::errno::Errno;
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap, mmap_anonymous, munmap};
use secretvmm_canary::PAGE_SIZE;

/// A writable mapping, shared unless it says otherwise. Dropping it unmaps it.
#[derive(Debug)]
pub struct Area {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: the type hands out bytes by copy only; races between those who touch them are what guests are for.
unsafe impl Send for Area {}
// SAFETY: as above.
unsafe impl Sync for Area {}

impl Area {
    /// Maps the first `length` bytes of a file, where the kernel likes: it aligns secret memory for 2 MiB pages.
    ///
    /// # Errors
    /// mmap(2)'s.
    pub fn of_file(file: &impl AsFd, length: usize) -> Result<Self, Errno> {
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours.
        let start = unsafe { mmap(None, bytes(length)?, access(), MapFlags::MAP_SHARED, file, 0) }?;
        Ok(Area { start: start.cast(), length })
    }

    /// Maps `length` bytes of a file or device from an offset on.
    ///
    /// # Errors
    /// mmap(2)'s.
    pub fn of_file_at(file: &impl AsFd, offset: u64, length: usize) -> Result<Self, Errno> {
        let offset = i64::try_from(offset).map_err(|_| Errno::EOVERFLOW)?;
        // SAFETY: as above.
        let start = unsafe { mmap(None, bytes(length)?, access(), MapFlags::MAP_SHARED, file, offset) }?;
        Ok(Area { start: start.cast(), length })
    }

    /// Maps ordinary memory: the control.
    ///
    /// # Errors
    /// mmap(2)'s.
    pub fn ordinary(length: usize) -> Result<Self, Errno> {
        // SAFETY: as above.
        let start = unsafe { mmap_anonymous(None, bytes(length)?, access(), MapFlags::MAP_SHARED) }?;
        Ok(Area { start: start.cast(), length })
    }

    /// Maps memory of this process alone, as a heap is.
    ///
    /// # Errors
    /// mmap(2)'s.
    pub fn private(length: usize) -> Result<Self, Errno> {
        // SAFETY: as above.
        let start = unsafe { mmap_anonymous(None, bytes(length)?, access(), MapFlags::MAP_PRIVATE) }?;
        Ok(Area { start: start.cast(), length })
    }

    /// Puts a file in its place, at the same addresses.
    ///
    /// # Errors
    /// mmap(2)'s; what was there may be gone then.
    pub fn replace(&self, file: &impl AsFd) -> Result<(), Errno> {
        let at = NonZeroUsize::new(self.start.as_ptr().addr());
        let flags = MapFlags::MAP_SHARED | MapFlags::MAP_FIXED;
        // SAFETY: the range is ours, and no Rust object is in it.
        unsafe { mmap(at, bytes(self.length)?, access(), flags, file, 0) }.map(drop)
    }

    /// Its first address.
    pub fn address(&self) -> u64 {
        self.start.as_ptr().addr() as u64
    }

    /// Its length in bytes.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Asks for 4 KiB pages from now on.
    ///
    /// # Errors
    /// The kernel has no huge pages.
    pub fn use_small_pages(&self) -> Result<(), Errno> {
        // SAFETY: the range is ours, and the advice does not change its contents.
        unsafe { madvise(self.start.cast(), self.length, MmapAdvise::MADV_NOHUGEPAGE) }
    }

    /// Takes [`Area::use_small_pages`] back.
    ///
    /// # Errors
    /// The kernel has no huge pages.
    pub fn allow_huge_pages(&self) -> Result<(), Errno> {
        // SAFETY: as above.
        unsafe { madvise(self.start.cast(), self.length, MmapAdvise::MADV_HUGEPAGE) }
    }

    /// Lets the kernel merge pages that are alike, of private memory.
    ///
    /// # Errors
    /// The kernel has no KSM.
    pub fn allow_merging(&self) -> Result<(), Errno> {
        // SAFETY: as above.
        unsafe { madvise(self.start.cast(), self.length, MmapAdvise::MADV_MERGEABLE) }
    }

    /// Gives the page at an offset back, of private memory (`MADV_DONTNEED`).
    ///
    /// # Errors
    /// There is no such page.
    pub fn discard(&self, offset: usize) -> Result<(), Errno> {
        // SAFETY: the kernel checks the address; where no Rust object is, none loses its contents.
        Errno::result(unsafe { libc::madvise(self.at(offset).cast(), PAGE_SIZE, libc::MADV_DONTNEED) }).map(drop)
    }

    /// Gives the page at an offset back, of ordinary memory (`MADV_REMOVE`).
    ///
    /// # Errors
    /// The memory knows no holes.
    pub fn release(&self, offset: usize) -> Result<(), Errno> {
        // SAFETY: the kernel checks the address; where no Rust object is, none loses its contents.
        Errno::result(unsafe { libc::madvise(self.at(offset).cast(), PAGE_SIZE, libc::MADV_REMOVE) }).map(drop)
    }

    /// Takes the page at an offset out of use, its contents going to another frame (`MADV_SOFT_OFFLINE`).
    ///
    /// # Errors
    /// The kernel cannot or will not move it.
    pub fn soft_offline(&self, offset: usize) -> Result<(), Errno> {
        // SAFETY: the kernel checks the address; contents stay as they are.
        Errno::result(unsafe { libc::madvise(self.at(offset).cast(), PAGE_SIZE, libc::MADV_SOFT_OFFLINE) }).map(drop)
    }

    /// Writes one byte into every page. Where a page cannot be had, that is a SIGBUS.
    pub fn touch(&self) {
        (0..self.length).step_by(PAGE_SIZE).for_each(|offset| self.put(offset, &[1]));
    }

    /// Writes bytes at an offset; nothing if they do not fit.
    pub fn put(&self, offset: usize, contents: &[u8]) {
        if offset.checked_add(contents.len()).is_some_and(|end| end <= self.length) {
            // SAFETY: the bytes fit into the mapping, which no Rust object is in.
            unsafe { self.start.as_ptr().add(offset).copy_from_nonoverlapping(contents.as_ptr(), contents.len()) };
        }
    }

    /// Copies bytes at an offset out; none if they are not all inside. Where a page cannot be had, that is a SIGBUS.
    pub fn get(&self, offset: usize, contents: &mut [u8]) {
        if offset.checked_add(contents.len()).is_some_and(|end| end <= self.length) {
            // SAFETY: the bytes are in the mapping, which no Rust object is in.
            unsafe { self.start.as_ptr().add(offset).copy_to_nonoverlapping(contents.as_mut_ptr(), contents.len()) };
        }
    }

    /// Fills it whole from a file or device, past the cache if that was opened so.
    ///
    /// # Errors
    /// pread(2)'s; EIO if less comes.
    pub fn fill_from(&self, file: &impl AsFd, offset: i64) -> Result<(), Errno> {
        let fd = file.as_fd().as_raw_fd();
        // SAFETY: the kernel writes into the mapping, where no Rust object is.
        let read = Errno::result(unsafe { libc::pread(fd, self.at(0).cast(), self.length, offset) })?;
        if read.cast_unsigned() == self.length { Ok(()) } else { Err(Errno::EIO) }
    }

    /// Reads a byte by the kernel's hand: what would be a signal is an error then.
    ///
    /// # Errors
    /// EFAULT where the page cannot be had.
    pub fn try_read(&self, offset: usize) -> Result<u8, Errno> {
        let (mut reader, writer) = io::pipe().map_err(errno)?;
        // SAFETY: the kernel checks the address and reads one byte there.
        let wrote = unsafe { libc::write(writer.as_raw_fd(), self.at(offset).cast(), 1) };
        Errno::result(wrote)?;
        let mut byte = [0];
        io::Read::read_exact(&mut reader, &mut byte).map_err(errno)?;
        Ok(byte[0])
    }

    /// Writes a byte by the kernel's hand.
    ///
    /// # Errors
    /// As [`Area::try_read`].
    pub fn try_write(&self, offset: usize, byte: u8) -> Result<(), Errno> {
        let (reader, mut writer) = io::pipe().map_err(errno)?;
        io::Write::write_all(&mut writer, &[byte]).map_err(errno)?;
        // SAFETY: the kernel checks the address and writes one byte there, where no Rust object is.
        let read = unsafe { libc::read(reader.as_raw_fd(), self.at(offset).cast(), 1) };
        Errno::result(read).map(drop)
    }

    /// An address that may lie outside, for calls that are to be refused.
    fn at(&self, offset: usize) -> *mut u8 {
        self.start.as_ptr().wrapping_add(offset)
    }
}

impl Drop for Area {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, has this length, and nothing refers to it.
        let _ = unsafe { munmap(self.start.cast(), self.length) };
    }
}

fn access() -> ProtFlags {
    ProtFlags::PROT_READ | ProtFlags::PROT_WRITE
}

fn bytes(length: usize) -> Result<NonZeroUsize, Errno> {
    NonZeroUsize::new(length).ok_or(Errno::EINVAL)
}

fn errno(error: io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn try_read_sees_what_put_wrote_and_faults_outside_as_an_error() {
        let area = Area::ordinary(2 * PAGE_SIZE).unwrap();
        area.put(PAGE_SIZE, &[7]);
        area.try_write(PAGE_SIZE + 1, 8).unwrap();
        assert_eq!((area.try_read(PAGE_SIZE), area.try_read(PAGE_SIZE + 1)), (Ok(7), Ok(8)));
        // A page that no access can have, since the file ends before it.
        let file = tempfile();
        let beyond = Area::of_file(&file, PAGE_SIZE).unwrap();
        assert_eq!((beyond.try_read(0), beyond.try_write(0, 1)), (Err(Errno::EFAULT), Err(Errno::EFAULT)));
    }

    fn tempfile() -> std::os::fd::OwnedFd {
        nix::sys::memfd::memfd_create(c"empty", nix::sys::memfd::MFdFlags::MFD_CLOEXEC).unwrap()
    }

    #[test]
    fn put_beyond_the_end_writes_nothing() {
        let area = Area::ordinary(PAGE_SIZE).unwrap();
        area.put(PAGE_SIZE - 1, &[1, 2]);
        assert_eq!(area.try_read(PAGE_SIZE - 1), Ok(0));
    }
}
