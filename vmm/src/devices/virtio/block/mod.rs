// SPDX-License-Identifier: Apache-2.0
//! The block device (virtio 1.2, section 5.2): a file or a block device of the host as a disk.
//!
//! A request is done by the thread that hears of it, with preadv(2) and pwritev(2) between the file
//! and the guest's buffers. Nothing that the guest reads or writes is held anywhere in between but in
//! the host's page cache, which is the disk's memory and not the guest's.
//!
//! ```text
//! chain ── BlockRequest::parse, each descriptor and the header read once ──> limits ──> range ──> Disk
//! ```
//!
//! A request that is larger than what one turn moves stays in the queue and goes on in the next.
//!
//! Nothing locks the file. The owner of two VMs that write to one file gets what he asked for, as
//! with Firecracker.

mod device;
mod disk;
mod erase;
mod error;
mod metrics;
mod request;
#[cfg(test)]
mod tests;
mod transfer;

pub use device::Block;
pub use error::Error;
pub use metrics::Metrics;
