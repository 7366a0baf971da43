// SPDX-License-Identifier: Apache-2.0
//! System calls that nix does not wrap and that more than one probe makes.
#![allow(unsafe_code)] // Each wrapper answers for what its call reads and writes.

use std::fmt;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;

/// The error of a probe that ptrace's rules stop before it reaches the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByPolicy(pub Errno);

impl ByPolicy {
    /// EPERM and EACCES are policy where a process, and not its memory, is asked for; anything else is an error.
    pub fn or_error(errno: Errno) -> anyhow::Error {
        match errno {
            Errno::EPERM | Errno::EACCES => ByPolicy(errno).into(),
            _ => errno.into(),
        }
    }
}

impl fmt::Display for ByPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Refused by policy ({:?})", self.0)
    }
}

impl std::error::Error for ByPolicy {}

/// A descriptor of a process (pidfd_open(2)).
///
/// # Errors
/// The call's.
pub fn pidfd_open(pid: u32) -> Result<OwnedFd, Errno> {
    // SAFETY: the call takes integers only.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })
}

/// Another process's descriptor, as our own (pidfd_getfd(2)).
///
/// # Errors
/// The call's: EPERM by ptrace's rules.
pub fn pidfd_getfd(process: &impl AsFd, number: RawFd) -> Result<File, Errno> {
    // SAFETY: the call takes integers only.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_fd().as_raw_fd(), number, 0) }).map(File::from)
}

/// madvise(2) on another process's memory: such advice as keeps its contents.
///
/// # Errors
/// The call's.
pub fn process_madvise(process: &impl AsFd, address: u64, length: u64, advice: i32) -> Result<(), Errno> {
    let range = [address, length];
    // SAFETY: the kernel reads one iovec, which is two words.
    let done =
        unsafe { libc::syscall(libc::SYS_process_madvise, process.as_fd().as_raw_fd(), range.as_ptr(), 1, advice, 0) };
    Errno::result(done).map(drop)
}

/// ioctl(2) with a buffer that the kernel reads, writes, or both. Where the request does not say how large it is, its
/// first 32 bits do, as with VFIO and iommufd.
///
/// # Errors
/// The call's; EINVAL if the buffer is smaller.
pub fn ioctl(file: &impl AsFd, request: u64, argument: &mut [u8]) -> Result<(), Errno> {
    let size = match ((request >> 16 & 0x3fff) as usize, argument.first_chunk()) {
        (0, Some(first)) => u32::from_ne_bytes(*first) as usize,
        (size, _) => size,
    };
    if argument.len() < size {
        return Err(Errno::EINVAL);
    }
    // SAFETY: the buffer is as large as the request or it itself says.
    let done = unsafe { libc::ioctl(file.as_fd().as_raw_fd(), request as libc::Ioctl, argument.as_mut_ptr()) };
    Errno::result(done).map(drop)
}

/// Moves pages of a process to a node (move_pages(2)); what came of each is in the frames.
///
/// # Errors
/// The call's.
pub fn move_pages(pid: u32, pages: &[u64], node: i32) -> Result<(), Errno> {
    const MPOL_MF_MOVE_ALL: libc::c_int = 4;
    let (nodes, mut status) = (vec![node; pages.len()], vec![0; pages.len()]);
    // SAFETY: the arrays are of the length that is told; the pages are used by address only.
    let done = unsafe {
        libc::syscall(
            libc::SYS_move_pages,
            pid,
            pages.len(),
            pages.as_ptr(),
            nodes.as_ptr(),
            status.as_mut_ptr(),
            MPOL_MF_MOVE_ALL,
        )
    };
    Errno::result(done)?;
    match status.iter().find(|status| **status < 0) {
        Some(status) => Err(Errno::from_raw(-status)),
        None => Ok(()),
    }
}

/// Moves all of a process's pages from one node to another (migrate_pages(2)); gives how many would not be moved.
///
/// # Errors
/// The call's.
pub fn migrate_pages(pid: u32, from: u32, to: u32) -> Result<i64, Errno> {
    let (from, to) = (1u64 << from, 1u64 << to);
    // SAFETY: the kernel reads one word of each mask.
    Errno::result(unsafe { libc::syscall(libc::SYS_migrate_pages, pid, 64, &raw const from, &raw const to) })
}

/// Unloads the kernel that would be booted next, whether there is one or not: kexec_load(2) without segments.
///
/// # Errors
/// The call's: ENOSYS without kexec.
pub fn kexec_unload() -> Result<(), Errno> {
    // SAFETY: the kernel reads no segment.
    Errno::result(unsafe { libc::syscall(libc::SYS_kexec_load, 0, 0, std::ptr::null::<u8>(), 0) }).map(drop)
}

/// Loads a kernel for after a crash: kexec_file_load(2) without an initrd.
///
/// # Errors
/// The call's: ENOSYS without crash dumps, EADDRNOTAVAIL or ENOMEM without memory kept for it (`crashkernel=`).
pub fn kexec_load_for_crash(kernel: &impl AsFd) -> Result<(), Errno> {
    kexec_file_load(kernel.as_fd().as_raw_fd(), KEXEC_FILE_ON_CRASH | KEXEC_FILE_NO_INITRAMFS)
}

/// Unloads it.
///
/// # Errors
/// The call's.
pub fn kexec_unload_for_crash() -> Result<(), Errno> {
    kexec_file_load(-1, KEXEC_FILE_ON_CRASH | KEXEC_FILE_UNLOAD)
}

/// include/uapi/linux/kexec.h.
const KEXEC_FILE_UNLOAD: libc::c_ulong = 1;
const KEXEC_FILE_ON_CRASH: libc::c_ulong = 2;
const KEXEC_FILE_NO_INITRAMFS: libc::c_ulong = 4;

fn kexec_file_load(kernel: RawFd, flags: libc::c_ulong) -> Result<(), Errno> {
    // SAFETY: the kernel reads one byte of a command line, its end.
    Errno::result(unsafe { libc::syscall(libc::SYS_kexec_file_load, kernel, -1, 1, c"".as_ptr(), flags) }).map(drop)
}

/// Swaps to a device, or ceases to.
///
/// # Errors
/// The call's: EINVAL without a swap header, EBUSY if it is in use.
pub fn swap(device: &std::ffi::CStr, on: bool) -> Result<(), Errno> {
    // SAFETY: the name is a C string.
    let done = unsafe { if on { libc::swapon(device.as_ptr(), 0) } else { libc::swapoff(device.as_ptr()) } };
    Errno::result(done).map(drop)
}

/// bpf(2). Pointers that the attributes hold must be to what outlives the call.
///
/// # Safety
/// The attributes' pointers and sizes are right for the command.
///
/// # Errors
/// The call's.
pub unsafe fn bpf(command: u32, attributes: &mut [u8; 128]) -> Result<i64, Errno> {
    // SAFETY: the caller answers for the attributes.
    Errno::result(unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_mut_ptr(), attributes.len()) })
}

/// The descriptor that a call returned.
pub(crate) fn owned(returned: i64) -> Result<OwnedFd, Errno> {
    let fd = RawFd::try_from(Errno::result(returned)?).map_err(|_| Errno::EBADF)?;
    // SAFETY: the call has just returned this descriptor to us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
