// SPDX-License-Identifier: Apache-2.0
//! `memfd_secret(2)` as a library: memory that is absent from the kernel's direct map.
//!
//! Small parts, none of which knows about KVM:
//!
//! - [`probe`]: can this kernel give secret memory at all, and if not, why;
//! - [`memlock`]: `RLIMIT_MEMLOCK`, which secret pages are charged against, per user and at the
//!   moment a page is first touched;
//! - [`SecretFile`]: an anonymous file of secret pages, sized once, of a [`Mode`], and populated
//!   ahead if wanted;
//! - [`FdInfo`]: what the kernel says of such a file at this moment;
//! - [`Mapping`]: a shared mapping whose address, file offset and length agree modulo 2 MiB,
//!   between two guard areas, and which neither `fork(2)` nor a core dump takes along.
//!
//! And an allocator over them, for keys and other small things ([`alloc`], [`Config`]):
//!
//! - [`SecretBox`], [`SecretVec`], [`SecretString`]: what most programs need;
//! - [`Secret`]: the allocator for other collections;
//! - [`init`]: the errors before the first use, and what a forked child gets ([`Fork`]).
//!
//! ```
//! let mut key = secretmem::SecretVec::from_slice(&[7u8; 32])?;
//! key[0] = 8;
//! assert_eq!(format!("{key:?}"), "SecretVec(32 hidden)");
//! # Ok::<(), secretmem::AllocError>(())
//! ```
//!
//! What this crate does not do: use ordinary memory, unless [`Config::fallback`] allows it.

mod error;
mod fdinfo;
mod file;
mod heap;
mod mapping;
pub mod memlock;
mod mode;
mod owned;
mod probe;

pub use error::{Error, Result};
pub use fdinfo::FdInfo;
pub use file::SecretFile;
pub use heap::{
    AllocError, Config, Fork, Misuse, Stats, Totals, aligned_alloc, alloc, free, init, realloc, size_of, stats, wipe,
};
pub use mapping::Mapping;
pub use mode::Mode;
pub use owned::{Secret, SecretBox, SecretString, SecretVec};
pub use probe::{Unavailable, features, probe};

/// Size and alignment of a PMD leaf on x86-64, in bytes. Mappings are congruent modulo this, so
/// that a kernel that has 2M secret folios can use them for the process and for stage 2.
pub const PMD_SIZE: u64 = 2 << 20;
