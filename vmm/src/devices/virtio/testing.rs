// SPDX-License-Identifier: Apache-2.0
//! A driver for unit tests: it builds rings in guest memory and talks to a transport's registers.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use virtio_bindings::virtio_config::*;
use virtio_bindings::virtio_mmio::*;
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::{Interrupt, Transport, VirtioDevice};
use crate::bus::MmioDevice;
use crate::memory::{GuestMemory, GuestRam, RamKind};

/// Where the rings of queue 0 begin; those of each further queue lie [`RING_STRIDE`] behind.
const RINGS: u64 = 0x10_0000;
const RING_STRIDE: u64 = 0x1_0000;
pub(crate) const AVAIL: u64 = 0x4000;
const USED: u64 = 0x8000;
/// Memory for buffers, free for the test to use.
pub(crate) const BUFFERS: u64 = 0x100_0000;
/// Flags of a descriptor.
pub(crate) const NEXT: u16 = 1;
pub(crate) const WRITE: u16 = 2;
pub(crate) const INDIRECT: u16 = 4;

/// A guest of 64 MiB with one device.
pub(crate) struct Driver<D> {
    pub(crate) transport: Arc<Transport<D>>,
    pub(crate) memory: GuestMemory,
    pub(crate) irq: EventFd,
    size: u16,
    _ram: GuestRam,
}

impl<D: VirtioDevice> Driver<D> {
    /// A device that nobody has spoken to.
    pub(crate) fn new(device: D) -> Self {
        let ram = GuestRam::create(RamKind::Shared, 64 << 20).unwrap();
        let memory = ram.memory().clone();
        let irq = EventFd::new(EFD_NONBLOCK).unwrap();
        let transport = Transport::new(device, memory.clone(), Interrupt::new(irq.try_clone().unwrap())).unwrap();
        Self { transport, memory, irq, size: 16, _ram: ram }
    }

    /// A device with all queues of 16 entries, taken into use with `features` besides VERSION_1.
    pub(crate) fn active(device: D, features: u64) -> Self {
        let driver = Self::new(device);
        driver.negotiate(features);
        for index in 0..D::QUEUES.len() {
            driver.set_up_queue(index);
        }
        driver.write(VIRTIO_MMIO_STATUS, 15);
        assert_eq!(driver.read(VIRTIO_MMIO_STATUS), 15);
        driver
    }

    pub(crate) fn negotiate(&self, features: u64) {
        let features = features | 1 << VIRTIO_F_VERSION_1;
        self.write(VIRTIO_MMIO_STATUS, VIRTIO_CONFIG_S_ACKNOWLEDGE);
        self.write(VIRTIO_MMIO_STATUS, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
        for (select, half) in [(0, features as u32), (1, (features >> 32) as u32)] {
            self.write(VIRTIO_MMIO_DRIVER_FEATURES_SEL, select);
            self.write(VIRTIO_MMIO_DRIVER_FEATURES, half);
        }
        self.write(VIRTIO_MMIO_STATUS, 11);
    }

    pub(crate) fn set_up_queue(&self, index: usize) {
        let base = Self::rings(index);
        self.write(VIRTIO_MMIO_QUEUE_SEL, index as u32);
        self.write(VIRTIO_MMIO_QUEUE_NUM, self.size.into());
        self.write(VIRTIO_MMIO_QUEUE_DESC_LOW, base as u32);
        self.write(VIRTIO_MMIO_QUEUE_AVAIL_LOW, (base + AVAIL) as u32);
        self.write(VIRTIO_MMIO_QUEUE_USED_LOW, (base + USED) as u32);
        self.write(VIRTIO_MMIO_QUEUE_READY, 1);
    }

    pub(crate) fn rings(index: usize) -> u64 {
        RINGS + index as u64 * RING_STRIDE
    }

    pub(crate) fn read(&self, register: u32) -> u32 {
        let mut word = [0; 4];
        self.transport.read(register.into(), &mut word);
        u32::from_le_bytes(word)
    }

    pub(crate) fn write(&self, register: u32, value: u32) {
        self.transport.write(register.into(), &value.to_le_bytes());
    }

    /// The device's features.
    pub(crate) fn features(&self) -> u64 {
        self.write(VIRTIO_MMIO_DEVICE_FEATURES_SEL, 0);
        let low = self.read(VIRTIO_MMIO_DEVICE_FEATURES);
        self.write(VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
        u64::from(self.read(VIRTIO_MMIO_DEVICE_FEATURES)) << 32 | u64::from(low)
    }

    /// Writes descriptor `at`: address, length, flags, next.
    pub(crate) fn descriptor(&self, index: usize, at: u16, address: u64, len: u32, flags: u16, next: u16) {
        self.write_descriptor(Self::rings(index) + u64::from(at) * 16, address, len, flags, next);
    }

    pub(crate) fn write_descriptor(&self, place: u64, address: u64, len: u32, flags: u16, next: u16) {
        self.memory.write_obj(address, GuestAddress(place)).unwrap();
        self.memory.write_obj(len, GuestAddress(place + 8)).unwrap();
        self.memory.write_obj(flags, GuestAddress(place + 12)).unwrap();
        self.memory.write_obj(next, GuestAddress(place + 14)).unwrap();
    }

    /// Chains buffers `(address, length, written by the device)` from descriptor `head`, makes them
    /// available, and notifies.
    pub(crate) fn send(&self, index: usize, head: u16, buffers: &[(u64, u32, bool)]) {
        for (at, (address, len, write)) in (head..).zip(buffers) {
            let last = usize::from(at - head) + 1 == buffers.len();
            let flags = if *write { WRITE } else { 0 } | if last { 0 } else { NEXT };
            self.descriptor(index, at, *address, *len, flags, at + 1);
        }
        self.offer(index, head);
        self.write(VIRTIO_MMIO_QUEUE_NOTIFY, index as u32);
    }

    /// Puts `head` into the avail ring.
    pub(crate) fn offer(&self, index: usize, head: u16) {
        let avail = Self::rings(index) + AVAIL;
        let at: u16 = self.memory.read_obj(GuestAddress(avail + 2)).unwrap();
        self.memory.write_obj(head, GuestAddress(avail + 4 + u64::from(at % self.size) * 2)).unwrap();
        self.set_avail_index(index, at.wrapping_add(1));
    }

    pub(crate) fn set_avail_index(&self, index: usize, at: u16) {
        self.memory.write_obj(at, GuestAddress(Self::rings(index) + AVAIL + 2)).unwrap();
    }

    /// The used ring so far: `(head, length)`.
    pub(crate) fn used(&self, index: usize) -> Vec<(u32, u32)> {
        self.used_since(index, 0)
    }

    /// The used ring after its first `seen` entries.
    pub(crate) fn used_since(&self, index: usize, seen: u16) -> Vec<(u32, u32)> {
        let used = Self::rings(index) + USED;
        let count: u16 = self.memory.read_obj(GuestAddress(used + 2)).unwrap();
        let entry = |at: u16| used + 4 + u64::from(at % self.size) * 8;
        let word = |at: u64| self.memory.read_obj(GuestAddress(at)).unwrap();
        (seen..count).map(|at| (word(entry(at)), word(entry(at) + 4))).collect()
    }

    /// Whether the interrupt was raised since the last call.
    pub(crate) fn interrupted(&self) -> bool {
        self.irq.read().is_ok()
    }

    /// Guest memory at `address`.
    pub(crate) fn bytes(&self, address: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.memory.read_slice(&mut bytes, GuestAddress(address)).unwrap();
        bytes
    }

    pub(crate) fn put(&self, address: u64, bytes: &[u8]) {
        self.memory.write_slice(bytes, GuestAddress(address)).unwrap();
    }

    pub(crate) fn needs_reset(&self) -> bool {
        self.read(VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_NEEDS_RESET != 0
    }
}
