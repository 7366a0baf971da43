// SPDX-License-Identifier: Apache-2.0
//! Guest memory: where it lies, what it is made of, and how the rest of the VMM reaches it.

pub mod backend;
mod error;
mod populating;
pub mod region;
mod room;

pub use backend::{Backing, Huge, Pool, Populate, RamKind, SecretOptions};
pub use error::Error;
pub use populating::Populating;
pub use region::{GuestMemory, GuestRam};
