//! `memfd_secret(2)` as a library: memory that is absent from the kernel's direct map.
//!
//! Five small parts, none of which knows about KVM:
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
//! What this crate does not do: allocate small objects, or fall back to ordinary memory.

mod error;
mod fdinfo;
mod file;
mod mapping;
pub mod memlock;
mod mode;
mod probe;

pub use error::{Error, Result};
pub use fdinfo::FdInfo;
pub use file::SecretFile;
pub use mapping::Mapping;
pub use mode::Mode;
pub use probe::{Unavailable, probe};

/// Size and alignment of a PMD leaf on x86-64, in bytes. Mappings are congruent modulo this, so
/// that a kernel that has 2M secret folios can use them for the process and for stage 2.
pub const PMD_SIZE: u64 = 2 << 20;
