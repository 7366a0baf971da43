//! An anonymous file of secret pages.
#![allow(unsafe_code)] // One raw system call: libc has no wrapper for memfd_secret(2).

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd};

use crate::{Error, PMD_SIZE, Result};

/// A file from `memfd_secret(2)`, sized once and closed on exec.
///
/// Its pages come into being, zeroed and charged against `RLIMIT_MEMLOCK`, when they are first
/// touched through a mapping. `read(2)`, `write(2)` and `pread(2)` on the descriptor fail: only a
/// mapping gives access.
#[derive(Debug)]
pub struct SecretFile {
    file: File,
    size: u64,
}

impl SecretFile {
    /// Creates a file of `size` bytes, a multiple of 2 MiB. Nothing is allocated yet.
    ///
    /// The kernel takes one `ftruncate` only, so the size is final.
    pub fn create(size: u64) -> Result<Self> {
        if size == 0 || !size.is_multiple_of(PMD_SIZE) {
            return Err(Error::Unaligned(size));
        }
        let file = memfd_secret().map_err(Error::Create)?;
        file.set_len(size).map_err(|source| Error::Resize { size, source })?;
        Ok(Self { file, size })
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

/// Calls `memfd_secret(O_CLOEXEC)`: an empty file.
pub(crate) fn memfd_secret() -> io::Result<File> {
    // SAFETY: the call takes one integer and touches none of our memory.
    let fd = unsafe { libc::syscall(libc::SYS_memfd_secret, libc::O_CLOEXEC) };
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
        assert!(matches!(SecretFile::create(4096), Err(Error::Unaligned(4096))));
        assert!(matches!(SecretFile::create(0), Err(Error::Unaligned(0))));
    }
}
