// SPDX-License-Identifier: Apache-2.0
//! Virtio 1.2 devices over MMIO.
//!
//! A device is a type that implements [`VirtioDevice`] in a folder of its own; everything that all
//! of them share is here: the register file ([`Transport`]), the rings as a device sees them
//! ([`Rings`]), the interrupt, and how long a device keeps its thread ([`Turns`]).
//!
//! ```text
//! vCPU: store to QueueNotify → bus → Transport → device.notify(queue) ─┐
//! main: epoll on the device's descriptors → device.host_event() ───────┴→ used ring → irqfd
//! ```

mod attached;
pub mod block;
mod chain;
mod device;
mod events;
mod interrupt;
pub mod net;
mod queue;
pub mod rng;
#[cfg(test)]
pub(crate) mod testing;
mod transport;
mod turn;
pub mod vsock;

pub use attached::{AttachError, Opened, VirtioDevices};
pub use chain::Chain;
pub use device::{DeviceError, Rings, VirtioDevice};
pub use events::{HostEvents, HostSide};
pub use interrupt::Interrupt;
pub use queue::Flow;
pub use transport::{ConfigChange, Transport};
pub use turn::{Turn, Turns};
