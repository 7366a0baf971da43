// SPDX-License-Identifier: Apache-2.0
//! The metadata service (MMDS): what the host wants the guest to know, as a web page that the guest
//! reads over its network.
//!
//! ```text
//! API ──> Mmds: a JSON document ──────────────────────────────┐
//! guest ──> net device ── to MMDS's address? ──> Stack: ARP, TCP, HTTP
//!                └ else ──> TAP
//! ```
//!
//! Addresses, versions, headers and status codes are Firecracker's.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

mod admission;
mod http;
mod metrics;
mod stack;
mod store;
mod token;

pub use metrics::Metrics;
pub(crate) use stack::{HEAD, Stack};
pub use store::{Error, Mmds};

/// The metadata service, which the API writes and network devices read.
pub type SharedMmds = Arc<Mutex<Mmds>>;

/// Looks at the service, also after a thread that did has panicked.
pub(crate) fn lock(mmds: &SharedMmds) -> MutexGuard<'_, Mmds> {
    mmds.lock().unwrap_or_else(PoisonError::into_inner)
}
