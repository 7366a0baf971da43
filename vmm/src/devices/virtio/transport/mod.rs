// SPDX-License-Identifier: Apache-2.0
//! The MMIO register file of a virtio device (virtio 1.2, section 4.2).
//!
//! ```text
//!  reset ──> ACKNOWLEDGE ──> DRIVER ──> features ──> FEATURES_OK ──> queues ──> DRIVER_OK
//!                                      └ only here ┘               └ only here ┘
//! ```
//!
//! Registers written in any other state keep their value: a queue that changes after DRIVER_OK is
//! no queue that the device would ever see.

use std::os::fd::RawFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use virtio_bindings::virtio_config::{
    VIRTIO_CONFIG_S_ACKNOWLEDGE, VIRTIO_CONFIG_S_DRIVER, VIRTIO_CONFIG_S_DRIVER_OK, VIRTIO_CONFIG_S_FEATURES_OK,
    VIRTIO_CONFIG_S_NEEDS_RESET, VIRTIO_F_VERSION_1,
};
use virtio_bindings::virtio_mmio::*;
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};
use virtio_queue::{Queue, QueueT};

use super::{DeviceError, HostSide, Interrupt, Rings, VirtioDevice};
use crate::bus::MmioDevice;
use crate::memory::GuestMemory;

/// "virt" in little-endian.
const MAGIC: u32 = 0x7472_6976;
/// The register layout since virtio 1.0.
const VERSION: u32 = 2;
/// "SVMM".
const VENDOR: u32 = 0x4d4d_5653;
/// What every device of ours can do.
const RING_FEATURES: u64 = 1 << VIRTIO_F_VERSION_1 | 1 << VIRTIO_RING_F_INDIRECT_DESC | 1 << VIRTIO_RING_F_EVENT_IDX;
/// What a driver has said before it may choose features.
const FOUND: u32 = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER;

/// How long a device that has given up says no more of it.
const QUIET: Duration = Duration::from_secs(1);

/// A device at a range of MMIO addresses. Shared by the bus, the event loop and the VM's owner.
pub struct Transport<D> {
    memory: GuestMemory,
    interrupt: Interrupt,
    inner: Mutex<Inner<D>>,
}

struct Inner<D> {
    device: D,
    queues: Vec<Queue>,
    status: u32,
    device_features_sel: u32,
    driver_features: u64,
    driver_features_sel: u32,
    queue_sel: u32,
    paused: bool,
    /// Why the device has given up, until that is logged.
    failure: Option<String>,
    /// A driver can reset its device and make it give up again without end.
    quiet_until: Option<Instant>,
}

impl<D: VirtioDevice> Transport<D> {
    /// A device after its reset.
    ///
    /// # Errors
    /// A queue size of the device's is no power of two.
    pub fn new(device: D, memory: GuestMemory, interrupt: Interrupt) -> Result<Arc<Self>, virtio_queue::Error> {
        let queues = D::QUEUES.iter().map(|size| Queue::new(*size)).collect::<Result<_, _>>()?;
        let inner = Inner {
            device,
            queues,
            status: 0,
            device_features_sel: 0,
            driver_features: 0,
            driver_features_sel: 0,
            queue_sel: 0,
            paused: false,
            failure: None,
            quiet_until: None,
        };
        Ok(Arc::new(Self { memory, interrupt, inner: Mutex::new(inner) }))
    }

    /// Changes the device from the host's side, and tells the driver if `change` says that the
    /// configuration space is another one now.
    pub fn change<T>(&self, change: impl FnOnce(&mut D) -> (T, ConfigChange)) -> T {
        let mut inner = self.lock();
        let (result, changed) = change(&mut inner.device);
        match changed {
            ConfigChange::Yes if inner.active() => self.interrupt.config_changed(),
            ConfigChange::Yes => self.interrupt.next_generation(),
            ConfigChange::No => {}
        }
        result
    }

    /// Looks at the device.
    pub fn look<T>(&self, look: impl FnOnce(&D) -> T) -> T {
        look(&self.lock().device)
    }

    fn lock(&self) -> MutexGuard<'_, Inner<D>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does `work`, and logs without the lock what the device has to say: nobody waits for the log.
    fn with_lock(&self, work: impl FnOnce(&mut Inner<D>)) {
        let mut inner = self.lock();
        work(&mut inner);
        let failure = inner.take_failure(Instant::now());
        drop(inner);
        if let Some(err) = failure {
            log::warn!("Virtio device {} stops until its driver resets it: {err}", D::TYPE);
        }
    }

    fn read_register(&self, offset: u32) -> u32 {
        // These two need no lock, so that a driver's interrupt handler never waits for a disk.
        match offset {
            VIRTIO_MMIO_INTERRUPT_STATUS => return self.interrupt.status(),
            VIRTIO_MMIO_CONFIG_GENERATION => return self.interrupt.generation(),
            _ => {}
        }
        let inner = self.lock();
        match offset {
            VIRTIO_MMIO_MAGIC_VALUE => MAGIC,
            VIRTIO_MMIO_VERSION => VERSION,
            VIRTIO_MMIO_DEVICE_ID => D::TYPE,
            VIRTIO_MMIO_VENDOR_ID => VENDOR,
            VIRTIO_MMIO_DEVICE_FEATURES => half(inner.features(), inner.device_features_sel),
            VIRTIO_MMIO_QUEUE_NUM_MAX => inner.queue().map_or(0, |queue| queue.max_size().into()),
            VIRTIO_MMIO_QUEUE_READY => inner.queue().map_or(0, |queue| queue.ready().into()),
            VIRTIO_MMIO_STATUS => inner.status,
            // No device has shared memory: its length is "all ones" (4.2.2).
            VIRTIO_MMIO_SHM_LEN_LOW
            | VIRTIO_MMIO_SHM_LEN_HIGH
            | VIRTIO_MMIO_SHM_BASE_LOW
            | VIRTIO_MMIO_SHM_BASE_HIGH => u32::MAX,
            _ => 0,
        }
    }

    fn write_register(&self, offset: u32, value: u32) {
        if offset == VIRTIO_MMIO_INTERRUPT_ACK {
            return self.interrupt.acknowledge(value);
        }
        self.with_lock(|inner| self.write_locked(inner, offset, value));
    }

    fn write_locked(&self, inner: &mut Inner<D>, offset: u32, value: u32) {
        match offset {
            VIRTIO_MMIO_DEVICE_FEATURES_SEL => inner.device_features_sel = value,
            VIRTIO_MMIO_DRIVER_FEATURES_SEL => inner.driver_features_sel = value,
            VIRTIO_MMIO_DRIVER_FEATURES => inner.choose_features(value),
            VIRTIO_MMIO_QUEUE_SEL => inner.queue_sel = value,
            VIRTIO_MMIO_QUEUE_NUM..=VIRTIO_MMIO_QUEUE_READY
            | VIRTIO_MMIO_QUEUE_DESC_LOW..=VIRTIO_MMIO_QUEUE_USED_HIGH => {
                inner.set_queue(offset, value);
            }
            VIRTIO_MMIO_QUEUE_NOTIFY => self.call(inner, |device, rings| device.notify(value as usize, rings)),
            VIRTIO_MMIO_STATUS => self.set_status(inner, value),
            _ => {}
        }
    }

    fn set_status(&self, inner: &mut Inner<D>, value: u32) {
        if value == 0 {
            inner.reset();
            return self.interrupt.clear();
        }
        // A driver only ever adds bits (2.1.1), and what the device says stays said.
        let mut added = value & !inner.status & !VIRTIO_CONFIG_S_NEEDS_RESET;
        if added & VIRTIO_CONFIG_S_FEATURES_OK != 0 && !inner.features_are_fine() {
            added &= !VIRTIO_CONFIG_S_FEATURES_OK;
        }
        if (inner.status | added) & VIRTIO_CONFIG_S_FEATURES_OK == 0 {
            added &= !VIRTIO_CONFIG_S_DRIVER_OK;
        }
        inner.status |= added;
        if added & VIRTIO_CONFIG_S_DRIVER_OK != 0 {
            self.activate(inner);
        }
    }

    fn activate(&self, inner: &mut Inner<D>) {
        let features = inner.driver_features;
        for queue in &mut inner.queues {
            queue.set_event_idx(features & 1 << VIRTIO_RING_F_EVENT_IDX != 0);
        }
        if inner.queues.iter().any(|queue| queue.ready() && !queue.is_valid(&self.memory)) {
            return self.give_up(inner, &DeviceError::Other("A ring lies outside guest memory"));
        }
        self.call(inner, |device, rings| device.activate(features, rings));
    }

    /// Calls an active device; nobody hears of it otherwise.
    fn call(&self, inner: &mut Inner<D>, call: impl FnOnce(&mut D, &mut Rings) -> Result<(), DeviceError>) {
        if !inner.active() {
            return;
        }
        let mut rings = Rings { memory: &self.memory, queues: &mut inner.queues, interrupt: &self.interrupt };
        if let Err(err) = call(&mut inner.device, &mut rings) {
            self.give_up(inner, &err);
        }
    }

    fn give_up(&self, inner: &mut Inner<D>, err: &DeviceError) {
        inner.failure = Some(err.to_string());
        inner.status |= VIRTIO_CONFIG_S_NEEDS_RESET;
        self.interrupt.config_changed();
    }
}

/// Whether a device's configuration space was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigChange {
    /// It is as it was.
    No,
    /// The driver has to read it again.
    Yes,
}

impl<D: VirtioDevice> Inner<D> {
    fn features(&self) -> u64 {
        self.device.features() | RING_FEATURES
    }

    fn active(&self) -> bool {
        self.status & (VIRTIO_CONFIG_S_DRIVER_OK | VIRTIO_CONFIG_S_NEEDS_RESET) == VIRTIO_CONFIG_S_DRIVER_OK
    }

    /// Why the device has given up, at most once in [`QUIET`].
    fn take_failure(&mut self, now: Instant) -> Option<String> {
        let failure = self.failure.take()?;
        if self.quiet_until.is_some_and(|until| now < until) {
            return None;
        }
        self.quiet_until = Some(now + QUIET);
        Some(failure)
    }

    fn queue(&self) -> Option<&Queue> {
        self.queues.get(self.queue_sel as usize)
    }

    fn choose_features(&mut self, value: u32) {
        if self.status & (FOUND | VIRTIO_CONFIG_S_FEATURES_OK) != FOUND {
            return;
        }
        let shift = match self.driver_features_sel {
            0 => 0,
            1 => 32,
            _ => return,
        };
        self.driver_features = self.driver_features & !(u64::from(u32::MAX) << shift) | u64::from(value) << shift;
    }

    fn features_are_fine(&self) -> bool {
        self.driver_features & !self.features() == 0 && self.driver_features & 1 << VIRTIO_F_VERSION_1 != 0
    }

    fn set_queue(&mut self, offset: u32, value: u32) {
        let configuring = VIRTIO_CONFIG_S_FEATURES_OK;
        if self.status & (VIRTIO_CONFIG_S_DRIVER_OK | VIRTIO_CONFIG_S_NEEDS_RESET | configuring) != configuring {
            return;
        }
        let Some(queue) = self.queues.get_mut(self.queue_sel as usize) else { return };
        match offset {
            VIRTIO_MMIO_QUEUE_READY => queue.set_ready(value == 1),
            _ if queue.ready() => {}
            VIRTIO_MMIO_QUEUE_NUM => queue.set_size(u16::try_from(value).unwrap_or(0)),
            VIRTIO_MMIO_QUEUE_DESC_LOW => queue.set_desc_table_address(Some(value), None),
            VIRTIO_MMIO_QUEUE_DESC_HIGH => queue.set_desc_table_address(None, Some(value)),
            VIRTIO_MMIO_QUEUE_AVAIL_LOW => queue.set_avail_ring_address(Some(value), None),
            VIRTIO_MMIO_QUEUE_AVAIL_HIGH => queue.set_avail_ring_address(None, Some(value)),
            VIRTIO_MMIO_QUEUE_USED_LOW => queue.set_used_ring_address(Some(value), None),
            VIRTIO_MMIO_QUEUE_USED_HIGH => queue.set_used_ring_address(None, Some(value)),
            _ => {}
        }
    }

    fn reset(&mut self) {
        self.device.reset();
        self.queues.iter_mut().for_each(QueueT::reset);
        self.status = 0;
        self.driver_features = 0;
        (self.device_features_sel, self.driver_features_sel, self.queue_sel) = (0, 0, 0);
    }
}

/// The low or high half of a 64-bit register; there are no others.
fn half(value: u64, select: u32) -> u32 {
    match select {
        0 => value as u32,
        1 => (value >> 32) as u32,
        _ => 0,
    }
}

impl<D: VirtioDevice> MmioDevice for Transport<D> {
    fn read(&self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        if let Some(at) = offset.checked_sub(VIRTIO_MMIO_CONFIG.into()) {
            let inner = self.lock();
            let config = usize::try_from(at).ok().and_then(|at| inner.device.config().get(at..)).unwrap_or_default();
            for (byte, value) in data.iter_mut().zip(config) {
                *byte = *value;
            }
        } else if let (Ok(word), Ok(offset)) = (<&mut [u8; 4]>::try_from(data), u32::try_from(offset)) {
            *word = self.read_register(offset).to_le_bytes();
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        // No device here has a configuration space that a driver may write to.
        if let (Ok(word), Ok(offset)) = (data.try_into(), u32::try_from(offset)) {
            self.write_register(offset, u32::from_le_bytes(word));
        }
    }
}

impl<D: VirtioDevice> HostSide for Transport<D> {
    fn descriptors(&self) -> Vec<RawFd> {
        self.lock().device.descriptors()
    }

    fn host_event(&self) {
        self.with_lock(|inner| {
            if !inner.paused {
                self.call(inner, D::host_event);
            }
        });
    }

    fn pause(&self) {
        self.lock().paused = true;
    }

    fn resume(&self) {
        self.lock().paused = false;
        self.host_event();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
