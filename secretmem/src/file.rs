// SPDX-License-Identifier: Apache-2.0
//! An anonymous file of secret pages.
#![allow(unsafe_code)] // One raw system call: libc has no wrapper for memfd_secret(2).

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd};

use crate::{Error, Mode, PMD_SIZE, Result};

/// A file from `memfd_secret(2)`, sized once and closed on exec.
///
/// Its pages come into being, zeroed and charged against `RLIMIT_MEMLOCK`, when they are first
/// touched through a mapping, or all at once by [`SecretFile::populate`]. `read(2)`, `write(2)` and
/// `pread(2)` on the descriptor fail: only a mapping gives access.
#[derive(Debug)]
pub struct SecretFile {
    file: File,
    size: u64,
}

impl SecretFile {
    /// Creates a file of `size` bytes, a multiple of 2 MiB. Nothing is allocated yet.
    ///
    /// The kernel takes one `ftruncate` only, so the size is final.
    pub fn create(size: u64, mode: Mode) -> Result<Self> {
        if size == 0 || !size.is_multiple_of(PMD_SIZE) {
            return Err(Error::Unaligned(size));
        }
        let file = memfd_secret(mode).map_err(|err| match err.raw_os_error() {
            Some(libc::EINVAL) if !mode.is_empty() => Error::UnknownMode(mode),
            Some(libc::EPERM) if mode.contains(Mode::POOL) => Error::PoolForbidden(err),
            _ => Error::Create(err),
        })?;
        file.set_len(size).map_err(|source| Error::Resize { size, source })?;
        Ok(Self { file, size })
    }

    /// Allocates `size` bytes from `offset` at once, in 2 MiB pages where the kernel has them, and
    /// with one TLB flush for many of them. Pages that are there already stay as they are.
    ///
    /// # Errors
    /// [`Error::Populate`]; EOPNOTSUPP comes from a kernel without the secretvmm series. What was
    /// allocated until then stays.
    pub fn populate(&self, offset: u64, size: u64) -> Result<()> {
        let error = |source| Error::Populate { size, source };
        let number = |value| i64::try_from(value).map_err(|_| error(io::Error::from_raw_os_error(libc::EFBIG)));
        let (start, length) = (number(offset)?, number(size)?);
        loop {
            // SAFETY: the call takes integers and touches none of our memory.
            if unsafe { libc::fallocate64(self.file.as_raw_fd(), 0, start, length) } == 0 {
                return Ok(());
            }
            match io::Error::last_os_error() {
                // It goes on behind the pages that it made before the signal.
                err if err.kind() == io::ErrorKind::Interrupted => {}
                err => return Err(error(err)),
            }
        }
    }

    /// The file's size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }
}

impl AsFd for SecretFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Calls `memfd_secret(O_CLOEXEC | mode)`: an empty file.
pub(crate) fn memfd_secret(mode: Mode) -> io::Result<File> {
    // SAFETY: the call takes one integer and touches none of our memory.
    let fd = unsafe { libc::syscall(libc::SYS_memfd_secret, libc::O_CLOEXEC as u32 | mode.bits()) };
    let fd = i32::try_from(fd).unwrap_or(-1);
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given us this descriptor and nobody else knows it.
    Ok(unsafe { File::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn create_odd_size_is_refused_before_any_call() {
        assert!(matches!(SecretFile::create(4096, Mode::empty()), Err(Error::Unaligned(4096))));
        assert!(matches!(SecretFile::create(0, Mode::empty()), Err(Error::Unaligned(0))));
    }
}
