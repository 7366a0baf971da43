// SPDX-License-Identifier: Apache-2.0
//! A VM's virtio devices: opened by the preflight, put on the bus by the builder.

use std::sync::Arc;

use kvm_ioctls::VmFd;
use serde::Serialize;
use serde_json::{Map, Value};

use super::block::Block;
use super::net::Net;
use super::rng::Rng;
use super::vsock::Vsock;
use super::{HostSide, Interrupt, Transport, VirtioDevice};
use crate::bus::{self, MmioBus};
use crate::kvm;
use crate::layout::{self, VirtioSlot};
use crate::memory::GuestMemory;

/// Devices with everything of the host's that they need open, and no guest yet; those of which a VM
/// can have several with their ids.
#[derive(Default)]
pub struct Opened {
    /// Disks, the root device first.
    pub drives: Vec<(String, Block)>,
    /// Network interfaces.
    pub networks: Vec<(String, Net)>,
    /// Sockets between host and guest.
    pub vsock: Option<Vsock>,
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

/// Devices of one kind, by their ids.
type Named<D> = Vec<(String, Arc<Transport<D>>)>;

/// The devices of a VM, in the order in which its guest finds them.
#[derive(Default)]
pub struct VirtioDevices {
    host_sides: Vec<Arc<dyn HostSide>>,
    slots: Vec<VirtioSlot>,
    drives: Named<Block>,
    networks: Named<Net>,
    vsock: Option<Arc<Transport<Vsock>>>,
}

impl VirtioDevices {
    /// Gives each device its place on `bus` and its interrupt.
    ///
    /// # Errors
    /// There are too many, or KVM has no interrupt for one.
    pub fn attach(opened: Opened, vm: &VmFd, memory: &GuestMemory, bus: &mut MmioBus) -> Result<Self, AttachError> {
        let mut devices = Self::default();
        let mut place = Place { devices: &mut devices, vm, memory, bus };
        let drives = place.all(opened.drives)?;
        let networks = place.all(opened.networks)?;
        let vsock = opened.vsock.map(|vsock| place.one(vsock)).transpose()?;
        opened.rng.map(|rng| place.one(rng)).transpose()?;
        Ok(Self { drives, networks, vsock, ..devices })
    }

    /// Where they are.
    pub fn slots(&self) -> &[VirtioSlot] {
        &self.slots
    }

    /// What the main thread watches for them.
    pub fn host_sides(&self) -> &[Arc<dyn HostSide>] {
        &self.host_sides
    }

    /// The disk of this id.
    pub fn drive(&self, id: &str) -> Option<&Transport<Block>> {
        find(&self.drives, id)
    }

    /// The network interface of this id.
    pub fn network(&self, id: &str) -> Option<&Transport<Net>> {
        find(&self.networks, id)
    }

    /// What they have counted since the last call, by Firecracker's names: a group each, and one for
    /// all of a kind.
    pub fn metrics(&self) -> Map<String, Value> {
        let mut groups = Map::new();
        group(&mut groups, "block", &self.drives, |block| block.metrics().clone());
        group(&mut groups, "net", &self.networks, Net::metrics);
        if let Some(Ok(value)) = self.vsock.as_ref().map(|vsock| serde_json::to_value(&*vsock.look(Vsock::metrics))) {
            groups.insert("vsock".into(), value);
        }
        groups
    }
}

/// Where the next device goes.
struct Place<'a> {
    devices: &'a mut VirtioDevices,
    vm: &'a VmFd,
    memory: &'a GuestMemory,
    bus: &'a mut MmioBus,
}

impl Place<'_> {
    fn all<D: VirtioDevice>(&mut self, opened: Vec<(String, D)>) -> Result<Named<D>, AttachError> {
        opened.into_iter().map(|(id, device)| Ok((id, self.one(device)?))).collect()
    }

    fn one<D: VirtioDevice>(&mut self, device: D) -> Result<Arc<Transport<D>>, AttachError> {
        let slot = layout::virtio_slots().nth(self.devices.slots.len()).ok_or(AttachError::TooMany)?;
        let interrupt = Interrupt::new(kvm::connect_irq(self.vm, slot.gsi)?);
        let transport = Transport::new(device, self.memory.clone(), interrupt)?;
        self.bus.insert(slot.address, layout::VIRTIO_MMIO_SIZE, transport.clone())?;
        self.devices.host_sides.push(transport.clone());
        self.devices.slots.push(slot);
        Ok(transport)
    }
}

fn find<'a, D>(named: &'a Named<D>, id: &str) -> Option<&'a Transport<D>> {
    named.iter().find(|(name, _)| name == id).map(|(_, transport)| transport.as_ref())
}

/// Adds `KIND_ID` for each device, and the sum of all as `KIND`.
fn group<D: VirtioDevice, M: Serialize>(
    groups: &mut Map<String, Value>,
    kind: &str,
    named: &Named<D>,
    metrics: impl Fn(&D) -> Arc<M>,
) {
    let mut sum = Map::new();
    for (id, transport) in named {
        let Ok(value) = serde_json::to_value(transport.look(&metrics).as_ref()) else { continue };
        for (name, count) in value.as_object().into_iter().flatten() {
            let so_far = sum.get(name).and_then(Value::as_u64).unwrap_or(0);
            sum.insert(name.clone(), (so_far + count.as_u64().unwrap_or(0)).into());
        }
        groups.insert(format!("{kind}_{id}"), value);
    }
    if !sum.is_empty() {
        groups.insert(kind.to_owned(), sum.into());
    }
}
