// SPDX-License-Identifier: Apache-2.0
//! Which device answers at which address.

mod mmio;
mod port;

pub use mmio::{MmioBus, MmioDevice};
pub use port::{PortBus, PortDevice};

/// Everything a vCPU can reach with an exit to this process; fixed before the first vCPU runs.
#[derive(Default)]
pub struct Buses {
    /// `in` and `out`.
    pub ports: PortBus,
    /// Loads and stores where no RAM is.
    pub mmio: MmioBus,
}

/// Two devices want the same addresses.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("Addresses {start:#x}..{end:#x} are taken already")]
pub struct Overlap {
    /// First address asked for.
    pub start: u64,
    /// One past the last address asked for.
    pub end: u64,
}
