//! What guest RAM is made of. Decided once, here; nothing behind [`super::GuestRam`] can tell.
#![allow(unsafe_code)] // memfd_create(2) for the ordinary kind.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd};

use secretmem::SecretFile;
pub use secretvmm_api::MemoryBackend;

use super::Error;

/// The file behind all of a guest's RAM.
#[derive(Debug)]
pub enum Backing {
    /// Secret pages: absent from the host kernel's direct map.
    Secret(SecretFile),
    /// Ordinary pages, on the user's explicit word.
    Shared(File),
}

impl Backing {
    /// Makes a file of `size` bytes of the kind asked for; there is no fallback to the other kind.
    pub fn create(kind: MemoryBackend, size: u64) -> Result<Self, Error> {
        match kind {
            MemoryBackend::Secret => Ok(Self::Secret(SecretFile::create(size)?)),
            MemoryBackend::Shared => Ok(Self::Shared(memfd(size).map_err(Error::Shared)?)),
        }
    }
}

impl AsFd for Backing {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Secret(file) => file.as_fd(),
            Self::Shared(file) => file.as_fd(),
        }
    }
}

fn memfd(size: u64) -> io::Result<File> {
    // SAFETY: the name is a C string; the call touches nothing else.
    let fd = unsafe { libc::memfd_create(c"guest-ram".as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a fresh descriptor that nobody else has.
    let file = unsafe { File::from_raw_fd(fd) };
    file.set_len(size)?;
    Ok(file)
}
