//! Virtio 1.2 devices over MMIO.
//!
//! A device is a type that implements [`VirtioDevice`] in a folder of its own; everything that all
//! of them share is here: the register file ([`Transport`]), the rings as a device sees them
//! ([`Rings`]), and the interrupt.
//!
//! ```text
//! vCPU: store to QueueNotify → bus → Transport → device.notify(queue) ─┐
//! main: epoll on the device's descriptors → device.host_event() ───────┴→ used ring → irqfd
//! ```

mod attached;
mod device;
mod events;
mod interrupt;
mod queue;
pub mod rng;
#[cfg(test)]
pub(crate) mod testing;
mod transport;
pub mod vsock;

pub use attached::{AttachError, Opened, VirtioDevices};
pub use device::{DeviceError, Rings, VirtioDevice};
pub use events::{HostEvents, HostSide};
pub use interrupt::Interrupt;
pub use queue::{Chain, Flow, serve};
pub use transport::{ConfigChange, Transport};
