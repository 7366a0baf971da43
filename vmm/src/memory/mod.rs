//! Guest memory: where it lies, what it is made of, and how the rest of the VMM reaches it.

pub mod backend;
pub mod layout;
pub mod region;

pub use backend::{Backing, Huge, Pool, RamKind, SecretOptions};
pub use region::{GuestMemory, GuestRam};

/// What can go wrong while guest memory is made. Nothing has been started yet.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The secret file or a mapping could not be made.
    #[error("Guest memory could not be made")]
    Secret(#[from] secretmem::Error),
    /// The ordinary file of `--memory shared` could not be made.
    #[error("Shared guest memory could not be made with memfd_create")]
    Shared(#[source] std::io::Error),
    /// vm-memory refused the regions.
    #[error("Guest memory regions do not fit together")]
    Regions(#[from] vm_memory::GuestRegionCollectionError),
}
