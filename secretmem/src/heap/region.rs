// SPDX-License-Identifier: Apache-2.0
//! The range of addresses that all allocations come from.
//!
//! ```text
//!   | guard | pages of stride 0 | guard | pages of stride 1 | guard | ...
//!   one STRIDE: a guard page, then up to 15 pages of one secret file
//! ```
//! An allocation of more pages goes on over the guards behind its own.
#![allow(unsafe_code)] // mmap, mremap and madvise: this module owns the range.

use std::io;
use std::os::fd::AsRawFd;
use std::ptr::{self, NonNull};

use crate::Mode;
use crate::file::memfd_secret;

/// Bytes of a page.
pub(super) const PAGE: usize = 4096;
/// Bytes of a stride, guard included.
pub(super) const STRIDE: usize = 64 << 10;
/// Strides of the region: 4 GiB of addresses.
pub(super) const STRIDES: usize = if cfg!(miri) { 256 } else { 64 << 10 };

/// What the pages are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Backing {
    Secret(Mode),
    /// Locked, kept out of core dumps, readable by the kernel.
    Ordinary,
}

#[derive(Debug)]
pub(super) struct Region {
    base: NonNull<u8>,
    backing: Backing,
}

// SAFETY: the range belongs to the process; this type hands out addresses only.
unsafe impl Send for Region {}
// SAFETY: as above; the base never changes.
unsafe impl Sync for Region {}

impl Region {
    pub(super) fn reserve(backing: Backing) -> io::Result<Self> {
        Ok(Self { base: reserve(STRIDE * STRIDES)?, backing })
    }

    pub(super) fn backing(&self) -> Backing {
        self.backing
    }

    /// The stride that `address` lies in.
    #[inline]
    pub(super) fn stride_of(&self, address: usize) -> Option<usize> {
        let offset = address.wrapping_sub(self.base.as_ptr().addr());
        (offset < STRIDE * STRIDES).then_some(offset / STRIDE)
    }

    /// The first byte behind a stride's guard.
    #[inline]
    pub(super) fn start(&self, stride: usize) -> NonNull<u8> {
        debug_assert!(stride < STRIDES);
        // SAFETY: the offset lies in the reservation.
        unsafe { self.base.add(stride * STRIDE + PAGE) }
    }

    /// Puts zeroed pages behind the guard of `stride`.
    pub(super) fn map(&self, stride: usize, len: usize) -> io::Result<()> {
        let pages = pages(self.backing, len)?;
        private(pages, len).and_then(|()| place(pages, self.start(stride), len)).inspect_err(|_| unmap(pages, len))
    }

    /// Gives pages back; what touches them from now on faults.
    pub(super) fn unmap(&self, stride: usize, len: usize) -> io::Result<()> {
        forbid(self.start(stride), len)
    }

    /// A copy of the first `used` bytes of a stride's `len`, which a child of fork takes along.
    pub(super) fn copy(&self, stride: usize, len: usize, used: usize) -> io::Result<NonNull<u8>> {
        let copy = pages(self.backing, len)?;
        // SAFETY: both ranges are mapped, `used` is at most `len`, and they do not overlap.
        unsafe { copy.copy_from_nonoverlapping(self.start(stride), used) };
        Ok(copy)
    }

    /// In the child: the copy becomes the stride.
    pub(super) fn adopt(&self, stride: usize, copy: NonNull<u8>, len: usize) -> io::Result<()> {
        private(copy, len)?;
        place(copy, self.start(stride), len)
    }

    /// In the parent: the copy goes.
    pub(super) fn drop_copy(copy: NonNull<u8>, len: usize) {
        unmap(copy, len);
    }
}

#[cfg(not(miri))]
fn map(addr: *mut u8, len: usize, prot: i32, flags: i32, fd: i32) -> io::Result<NonNull<u8>> {
    // SAFETY: a new mapping, or one over a part of our own reservation.
    let start = unsafe { libc::mmap(addr.cast(), len, prot, flags, fd, 0) };
    if start == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(start.cast()).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))
}

const READ_WRITE: i32 = libc::PROT_READ | libc::PROT_WRITE;
const UNUSED: i32 = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;

#[cfg(not(miri))]
fn reserve(len: usize) -> io::Result<NonNull<u8>> {
    let start = map(ptr::null_mut(), len, libc::PROT_NONE, UNUSED, -1)?;
    // SAFETY: the range is ours. Guards hold nothing; an old kernel's refusal costs nothing.
    unsafe { libc::madvise(start.as_ptr().cast(), len, libc::MADV_DONTDUMP) };
    Ok(start)
}

#[cfg(not(miri))]
fn forbid(start: NonNull<u8>, len: usize) -> io::Result<()> {
    map(start.as_ptr(), len, libc::PROT_NONE, UNUSED | libc::MAP_FIXED, -1).map(drop)
}

/// Pages anywhere. The descriptor is closed at once: the mapping keeps the file.
#[cfg(not(miri))]
fn pages(backing: Backing, len: usize) -> io::Result<NonNull<u8>> {
    let Backing::Secret(mode) = backing else {
        return locked(len);
    };
    let file = memfd_secret(mode)?;
    file.set_len(len as u64)?;
    // Where the kernel can, pages come now, as an error; elsewhere a first touch without memory is a SIGBUS.
    // SAFETY: the call takes integers and touches none of our memory.
    if unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, len as libc::off_t) } < 0 {
        let err = io::Error::last_os_error();
        if !matches!(err.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOSYS)) {
            return Err(err);
        }
    }
    let pages = map(ptr::null_mut(), len, READ_WRITE, libc::MAP_SHARED, file.as_raw_fd())?;
    no_dump(pages, len).inspect_err(|_| unmap(pages, len))?;
    Ok(pages)
}

#[cfg(not(miri))]
fn locked(len: usize) -> io::Result<NonNull<u8>> {
    let pages = map(ptr::null_mut(), len, READ_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1)?;
    // SAFETY: the range is ours.
    if unsafe { libc::mlock(pages.as_ptr().cast(), len) } < 0 {
        let err = io::Error::last_os_error();
        unmap(pages, len);
        return Err(err);
    }
    no_dump(pages, len).inspect_err(|_| unmap(pages, len))?;
    Ok(pages)
}

#[cfg(not(miri))]
fn no_dump(start: NonNull<u8>, len: usize) -> io::Result<()> {
    advise(start, len, libc::MADV_DONTDUMP)
}

/// Kept out of children.
#[cfg(not(miri))]
fn private(start: NonNull<u8>, len: usize) -> io::Result<()> {
    advise(start, len, libc::MADV_DONTFORK)
}

#[cfg(not(miri))]
fn advise(start: NonNull<u8>, len: usize, advice: i32) -> io::Result<()> {
    // SAFETY: the range is ours, and neither advice changes its contents.
    match unsafe { libc::madvise(start.as_ptr().cast(), len, advice) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Moves pages over a part of the reservation. Unlike mmap(2) with MAP_FIXED a failure leaves no hole there.
#[cfg(not(miri))]
fn place(pages: NonNull<u8>, to: NonNull<u8>, len: usize) -> io::Result<()> {
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    // SAFETY: both ranges are ours, and nobody holds a reference into either.
    let moved = unsafe { libc::mremap(pages.as_ptr().cast(), len, len, flags, to.as_ptr()) };
    if moved == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(not(miri))]
fn unmap(start: NonNull<u8>, len: usize) {
    // SAFETY: the range is ours, and nobody holds a reference into it.
    unsafe { libc::munmap(start.as_ptr().cast(), len) };
}

#[cfg(miri)]
mod stand_in {
    //! Miri knows no memfd_secret: zeroed ordinary memory, without guards.
    use super::*;

    pub(super) fn reserve(len: usize) -> io::Result<NonNull<u8>> {
        Ok(NonNull::from(Box::leak(vec![0u8; len].into_boxed_slice())).cast())
    }
    pub(super) fn forbid(start: NonNull<u8>, len: usize) -> io::Result<()> {
        // SAFETY: the range is ours.
        Ok(unsafe { start.write_bytes(0, len) })
    }
    pub(super) fn pages(_: Backing, len: usize) -> io::Result<NonNull<u8>> {
        reserve(len)
    }
    pub(super) fn private(_: NonNull<u8>, _: usize) -> io::Result<()> {
        Ok(())
    }
    pub(super) fn place(pages: NonNull<u8>, to: NonNull<u8>, len: usize) -> io::Result<()> {
        // SAFETY: both ranges are ours.
        unsafe { to.copy_from_nonoverlapping(pages, len) };
        unmap(pages, len);
        Ok(())
    }
    pub(super) fn unmap(start: NonNull<u8>, len: usize) {
        // SAFETY: `reserve` leaked a box of this length.
        drop(unsafe { Box::from_raw(ptr::slice_from_raw_parts_mut(start.as_ptr(), len)) });
    }
}
#[cfg(miri)]
use stand_in::{forbid, pages, place, private, reserve, unmap};
