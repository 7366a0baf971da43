//! A VM's virtio devices: opened by the preflight, put on the bus by the builder.

use std::sync::Arc;

use kvm_ioctls::VmFd;
use serde_json::{Map, Value};

use super::rng::Rng;
use super::{HostSide, Interrupt, Transport, VirtioDevice};
use crate::bus::{self, MmioBus};
use crate::kvm;
use crate::memory::GuestMemory;
use crate::memory::layout::{self, VirtioSlot};

/// Devices with everything of the host's that they need open, and no guest yet.
#[derive(Default)]
pub struct Opened {
    /// The entropy device.
    pub rng: Option<Rng>,
}

/// Why a device could not be put on the bus.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// More devices than places.
    #[error("A VM has room for {} virtio devices; leave some out", layout::VIRTIO_MAX)]
    TooMany,
    /// Two devices at one address.
    #[error(transparent)]
    Bus(#[from] bus::Overlap),
    /// No interrupt line.
    #[error(transparent)]
    Kvm(#[from] kvm::Error),
    /// A device with a queue that cannot be.
    #[error("A virtio queue could not be made")]
    Queue(#[from] virtio_queue::Error),
}

/// The devices of a VM, in the order in which its guest finds them.
#[derive(Default)]
pub struct VirtioDevices {
    host_sides: Vec<Arc<dyn HostSide>>,
    slots: Vec<VirtioSlot>,
    /// The entropy device.
    pub rng: Option<Arc<Transport<Rng>>>,
}

impl VirtioDevices {
    /// Gives each device its place on `bus` and its interrupt.
    ///
    /// # Errors
    /// There are too many, or KVM has no interrupt for one.
    pub fn attach(opened: Opened, vm: &VmFd, memory: &GuestMemory, bus: &mut MmioBus) -> Result<Self, AttachError> {
        let mut devices = Self::default();
        devices.rng = opened.rng.map(|rng| devices.add(rng, vm, memory, bus)).transpose()?;
        Ok(devices)
    }

    /// Where they are.
    pub fn slots(&self) -> &[VirtioSlot] {
        &self.slots
    }

    /// What the main thread watches for them.
    pub fn host_sides(&self) -> &[Arc<dyn HostSide>] {
        &self.host_sides
    }

    /// What they have counted.
    pub fn metrics(&self) -> Map<String, Value> {
        Map::new()
    }

    fn add<D: VirtioDevice>(
        &mut self,
        device: D,
        vm: &VmFd,
        memory: &GuestMemory,
        bus: &mut MmioBus,
    ) -> Result<Arc<Transport<D>>, AttachError> {
        let slot = layout::virtio_slots().nth(self.slots.len()).ok_or(AttachError::TooMany)?;
        let interrupt = Interrupt::new(kvm::connect_irq(vm, slot.gsi)?);
        let transport = Transport::new(device, memory.clone(), interrupt)?;
        bus.insert(slot.address, layout::VIRTIO_MMIO_SIZE, transport.clone())?;
        self.host_sides.push(transport.clone());
        self.slots.push(slot);
        Ok(transport)
    }
}
