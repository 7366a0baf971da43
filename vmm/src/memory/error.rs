// SPDX-License-Identifier: Apache-2.0
//! Why guest memory cannot be had, and what to do about it.

use std::io;

use secretmem::{Error as SecretError, memlock};

use super::{Huge, Pool, RamKind, SecretOptions};

/// What can go wrong while guest memory is made. Nothing has been started yet.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// EPERM from `memfd_secret(2)` for the pool.
    #[error(
        "The pool of secret memory is not for this user; give the VMM CAP_IPC_LOCK, or one of its groups the right with \
         `sysctl vm.secretmem_pool_group=GID`, or leave pool=boot out"
    )]
    PoolForbidden,
    /// ENOMEM from the pool, of which preflight has seen enough.
    #[error(
        "The pool of secret memory ran out before this guest had its {} MiB; give a smaller --mem, boot the host with a \
         larger secretmem=SIZE, or leave pool=boot out",
        .0 >> 20
    )]
    PoolEmpty(u64),
    /// ENOMEM for 2 MiB pages.
    #[error(
        "Pages of 2 MiB ran out before this guest had its {} MiB; give huge=auto or a smaller --mem, free memory or \
         defragment it (`sysctl vm.compact_memory=1`), or raise the memory.max of this process's control groups",
        .0 >> 20
    )]
    NoHugePages(u64),
    /// ENOMEM, where preflight has seen enough: somebody else was faster, or a control group's limit cannot be seen
    /// from inside a control group namespace.
    #[error(
        "Memory ran out before this guest had its {} MiB; give a smaller --mem, free memory, or raise the memory.max of \
         this process's control groups, of which a container may see only some",
        .0 >> 20
    )]
    NoMemory(u64),
    /// EDQUOT: secret memory that preflight cannot see counts, too.
    #[error(
        "Locked-memory limit (RLIMIT_MEMLOCK) of {} KiB was reached before this guest had its {} MiB: all secret memory of \
         this user counts; run `ulimit -l unlimited` as root (or set LimitMEMLOCK=infinity), or end another guest",
        .limit >> 10, .size >> 20
    )]
    Memlock {
        /// Bytes of the whole guest.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// ENOMEM from `mmap(2)`.
    #[error(
        "Guest memory of {} MiB does not fit into this process's address space; raise RLIMIT_AS (`ulimit -v unlimited`, \
         LimitAS=infinity) or give a smaller --mem",
        .0 >> 20
    )]
    AddressSpace(u64),
    /// EPERM from `fallocate(2)`.
    #[error(
        "Populating secret memory with fallocate is forbidden to this process; allow it in the seccomp or LSM policy"
    )]
    Forbidden(#[source] io::Error),
    /// The secret file or a mapping could not be made for another reason.
    #[error("Guest memory could not be made")]
    Secret(#[from] SecretError),
    /// The ordinary file of `--backing shared` could not be made.
    #[error("Shared guest memory could not be made with memfd_create")]
    Shared(#[source] io::Error),
    /// vm-memory refused the regions.
    #[error("Guest memory regions do not fit together")]
    Regions(#[from] vm_memory::GuestRegionCollectionError),
}

impl Error {
    /// The same of a guest of `size` bytes, with the remedy if there is a known one.
    pub(super) fn explain(self, kind: RamKind, size: u64) -> Self {
        let is = |source: &io::Error, errno| source.raw_os_error() == Some(errno);
        match self {
            Self::Secret(SecretError::PoolForbidden(_)) => Self::PoolForbidden,
            Self::Secret(SecretError::Populate { source, .. }) if is(&source, libc::ENOMEM) => {
                out_of_memory(kind, size)
            }
            Self::Secret(SecretError::Populate { source, .. }) if is(&source, libc::EDQUOT) => {
                Self::Memlock { size, limit: memlock::get().map_or(0, |limit| limit.soft) }
            }
            Self::Secret(SecretError::Populate { source, .. }) if is(&source, libc::EPERM) => Self::Forbidden(source),
            Self::Secret(SecretError::Map { source, .. }) if is(&source, libc::ENOMEM) => Self::AddressSpace(size),
            other => other,
        }
    }
}

fn out_of_memory(kind: RamKind, size: u64) -> Error {
    match kind {
        RamKind::Secret(SecretOptions { pool: Pool::Boot, .. }) => Error::PoolEmpty(size),
        RamKind::Secret(SecretOptions { huge: Huge::Require, .. }) => Error::NoHugePages(size),
        _ => Error::NoMemory(size),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explained(errno: i32, options: SecretOptions) -> String {
        let source = io::Error::from_raw_os_error(errno);
        let err = Error::from(SecretError::Populate { size: 3 << 30, source });
        err.explain(RamKind::Secret(options), 5 << 30).to_string()
    }

    #[test]
    fn explain_names_the_remedy_and_the_whole_guest() {
        let any = SecretOptions::default();
        for (errno, options, words) in [
            (libc::ENOMEM, any, ["5120 MiB", "memory.max"]),
            (libc::ENOMEM, SecretOptions { huge: Huge::Require, ..any }, ["5120 MiB", "huge=auto"]),
            (libc::ENOMEM, SecretOptions { pool: Pool::Boot, ..any }, ["5120 MiB", "secretmem=SIZE"]),
            (libc::EDQUOT, any, ["5120 MiB", "ulimit -l"]),
            (libc::EPERM, any, ["fallocate", "seccomp"]),
        ] {
            let text = explained(errno, options);
            assert!(words.iter().all(|word| text.contains(word)), "{errno}: {text}");
        }
    }

    #[test]
    fn explain_keeps_what_it_does_not_know() {
        assert_eq!(explained(libc::EIO, SecretOptions::default()), "Guest memory could not be made");
    }
}
