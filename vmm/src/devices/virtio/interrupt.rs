// SPDX-License-Identifier: Apache-2.0
//! A device's interrupt line and the reasons it was raised for.

use std::sync::atomic::{AtomicU32, Ordering};

use vmm_sys_util::eventfd::EventFd;

/// Bits of InterruptStatus (virtio 1.2, 4.2.2).
const USED_BUFFERS: u32 = 1 << 0;
const CONFIG_CHANGED: u32 = 1 << 1;

/// An edge-triggered interrupt. Needs no lock: a driver acknowledges while the device works.
#[derive(Debug)]
pub struct Interrupt {
    status: AtomicU32,
    generation: AtomicU32,
    line: EventFd,
}

impl Interrupt {
    /// Raised by writing to `line`, which KVM turns into an edge.
    pub fn new(line: EventFd) -> Self {
        Self { status: AtomicU32::new(0), generation: AtomicU32::new(0), line }
    }

    /// Buffers are in a used ring.
    pub fn used_buffers(&self) {
        self.raise(USED_BUFFERS);
    }

    /// The configuration space has changed; the driver is told.
    pub fn config_changed(&self) {
        self.next_generation();
        self.raise(CONFIG_CHANGED);
    }

    /// The configuration space has changed under a driver that is still reading it.
    pub fn next_generation(&self) {
        self.generation.fetch_add(1, Ordering::SeqCst);
    }

    /// InterruptStatus.
    pub fn status(&self) -> u32 {
        self.status.load(Ordering::SeqCst)
    }

    /// InterruptACK.
    pub fn acknowledge(&self, bits: u32) {
        self.status.fetch_and(!bits, Ordering::SeqCst);
    }

    /// ConfigGeneration.
    pub fn generation(&self) -> u32 {
        self.generation.load(Ordering::SeqCst)
    }

    /// As after a reset of the device.
    pub fn clear(&self) {
        self.status.store(0, Ordering::SeqCst);
    }

    fn raise(&self, reason: u32) {
        self.status.fetch_or(reason, Ordering::SeqCst);
        // A counter that is full has an edge pending already.
        let _ = self.line.write(1);
    }
}
