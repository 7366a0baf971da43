// SPDX-License-Identifier: Apache-2.0
//! `memfd_secret(2)` with nothing in between: tests of the kernel's own answers want every flag and every errno.
#![allow(unsafe_code)] // Two calls that nix does not wrap.

use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd};

use nix::errno::Errno;
use nix::unistd::ftruncate;
use secretmem::Mode;

/// Nobody but the maker can map the file.
pub const EXCLUSIVE: u32 = Mode::EXCLUSIVE.bits();
/// User mappings bypass the caches.
pub const UNCACHED: u32 = Mode::UNCACHED.bits();
/// Pages of 2 MiB or an error.
pub const HUGE: u32 = Mode::HUGE.bits();
/// Pages of the boot pool or an error.
pub const POOL: u32 = Mode::POOL.bits();

/// Bytes of a large page.
pub const HUGE_SIZE: usize = 2 << 20;

/// An empty file with these flags.
///
/// # Errors
/// The call's.
pub fn create(flags: u32) -> Result<File, Errno> {
    // SAFETY: the call takes flags only.
    let fd = unsafe {
        libc::syscall(libc::SYS_memfd_secret, libc::c_long::from(flags) | libc::c_long::from(libc::O_CLOEXEC))
    };
    let fd = i32::try_from(Errno::result(fd)?).map_err(|_| Errno::EBADF)?;
    // SAFETY: the call has just returned this descriptor to us alone.
    Ok(unsafe { File::from_raw_fd(fd) })
}

/// A file of `size` bytes, none of them there yet.
///
/// # Errors
/// As [`create`], and ftruncate(2)'s.
pub fn file(flags: u32, size: usize) -> Result<File, Errno> {
    let file = create(flags)?;
    ftruncate(&file, i64::try_from(size).map_err(|_| Errno::EFBIG)?)?;
    Ok(file)
}

/// Populates a range of a file with one `fallocate(2)`. A signal is no reason to stop.
///
/// # Errors
/// The call's.
pub fn populate(file: &File, offset: i64, length: i64) -> Result<(), Errno> {
    loop {
        // SAFETY: the call takes a descriptor that we hold and plain numbers.
        match Errno::result(unsafe { libc::fallocate(file.as_raw_fd(), 0, offset, length) }) {
            Err(Errno::EINTR) => {}
            result => return result.map(drop),
        }
    }
}
