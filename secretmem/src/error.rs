// SPDX-License-Identifier: Apache-2.0
//! The error type of this crate's system calls.

use std::io;

use crate::Mode;

/// What can go wrong when secret memory is created or mapped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// `memfd_secret(2)` failed.
    #[error("Secret memory could not be created with memfd_secret")]
    Create(#[source] io::Error),
    /// The kernel does not know these mode flags, or was built without what they need (EINVAL).
    #[error("This kernel's memfd_secret does not know the mode {0}; boot a kernel with the secretvmm series")]
    UnknownMode(Mode),
    /// The pool reserved at boot is not for this process (EPERM).
    #[error("The pool of secret memory needs CAP_IPC_LOCK, or the group of the sysctl vm.secretmem_pool_group")]
    PoolForbidden(#[source] io::Error),
    /// `fallocate(2)` could not get all pages. Those it got stay with the file.
    #[error("Secret memory of {size} bytes could not be populated")]
    Populate {
        /// The size asked for, in bytes.
        size: u64,
        /// ENOMEM: no memory, or no 2 MiB pages or nothing left in the pool where the mode wants
        /// them; EDQUOT: RLIMIT_MEMLOCK; EPERM: another process's exclusive file.
        source: io::Error,
    },
    /// The one `ftruncate(2)` that sizes the file failed.
    #[error("Secret memory of {size} bytes could not be sized")]
    Resize {
        /// The size asked for, in bytes.
        size: u64,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A size or offset is zero or no multiple of 2 MiB.
    #[error("Memory sizes and offsets must be multiples of 2 MiB and not 0, got {0:#x}")]
    Unaligned(u64),
    /// `mmap(2)` refused the address range or the file.
    #[error("Memory of {size} bytes could not be mapped")]
    Map {
        /// The size asked for, in bytes.
        size: u64,
        /// The kernel's answer.
        source: io::Error,
    },
    /// `madvise(2)` refused to keep the mapping out of forks and core dumps.
    #[error("Memory could not be kept out of forked children and core dumps")]
    Private(#[source] io::Error),
    /// `madvise(2)` refused to leave huge pages alone (EINVAL: the kernel has none).
    #[error("Memory could not be made of 4 KiB pages; this needs a kernel with CONFIG_TRANSPARENT_HUGEPAGE")]
    SmallPages(#[source] io::Error),
}

/// Shorthand for this crate's results.
pub type Result<T> = std::result::Result<T, Error>;
