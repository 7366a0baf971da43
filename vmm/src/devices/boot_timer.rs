// SPDX-License-Identifier: Apache-2.0
//! Firecracker's boot timer: a guest that has booted writes 123 to it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::bus::MmioDevice;

/// What the guest writes.
const BOOTED: u8 = 123;

/// Logs, once, how long the guest took.
pub struct BootTimer {
    begun: Instant,
    done: AtomicBool,
}

impl BootTimer {
    /// Counts from `begun`.
    pub fn new(begun: Instant) -> Self {
        Self { begun, done: AtomicBool::new(false) }
    }
}

impl MmioDevice for BootTimer {
    fn read(&self, _offset: u64, data: &mut [u8]) {
        data.fill(0);
    }

    fn write(&self, offset: u64, data: &[u8]) {
        if (offset, data) == (0, &[BOOTED]) && !self.done.swap(true, Ordering::Relaxed) {
            let time = self.begun.elapsed();
            log::info!("Guest-boot-time = {:>6} us {} ms", time.as_micros(), time.as_millis());
        }
    }
}
