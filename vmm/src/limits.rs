// SPDX-License-Identifier: Apache-2.0
//! The process's own limits.
#![allow(unsafe_code)] // getrlimit, setrlimit and mallopt.

use std::io;

/// Raises the number of descriptors as far as this process may: a thousand vsock connections are not
/// to leave the rest of the VMM without any.
///
/// # Errors
/// The kernel refuses; the limit is as it was.
pub fn raise_descriptors() -> io::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel fills the structure we own.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } < 0 {
        return Err(io::Error::last_os_error());
    }
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: the kernel only reads the structure.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// How many descriptors this process may have.
pub fn descriptors() -> usize {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel fills the structure we own.
    let failed = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } < 0;
    if failed { 0 } else { usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX) }
}

/// Has all threads allocate from one heap, to be called before there are any. Heaps of their own would cost each
/// thread some memory, and glibc opens a file before it makes one smaller (malloc/arena.c, `shrink_heap`), which
/// threads that serve clients and guests may not ([`crate::sandbox`]).
pub fn share_heap() {
    // SAFETY: sets a number that the allocator reads when a thread allocates for the first time.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn raise_descriptors_makes_the_limits_equal() {
        raise_descriptors().unwrap();
        let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
        let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
        let words: Vec<_> = line.split_whitespace().collect();
        assert_eq!(words[3], words[4], "{line}");
    }
}
