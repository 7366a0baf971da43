// SPDX-License-Identifier: Apache-2.0
//! The port bus: which device answers at which I/O port.

use std::sync::Arc;

use super::Overlap;

/// A device with byte-wide registers at I/O ports. Called on vCPU threads, several at a time, so
/// a device does its own locking and never waits for the main thread.
pub trait PortDevice: Send + Sync {
    /// Reads the register at `offset` from the device's first port.
    fn read(&self, offset: u16) -> u8;
    /// Writes the register at `offset` from the device's first port.
    fn write(&self, offset: u16, value: u8);
}

struct Range {
    start: u16,
    end: u16,
    device: Arc<dyn PortDevice>,
}

/// All port devices of a VM.
#[derive(Default)]
pub struct PortBus {
    ranges: Vec<Range>,
}

impl PortBus {
    /// Puts `device` at `count` ports from `start`.
    pub fn insert(&mut self, start: u16, count: u16, device: Arc<dyn PortDevice>) -> Result<(), Overlap> {
        let end = start.saturating_add(count);
        if self.ranges.iter().any(|range| start < range.end && range.start < end) {
            return Err(Overlap { start: start.into(), end: end.into() });
        }
        self.ranges.push(Range { start, end, device });
        Ok(())
    }

    /// Answers an `in` (or each byte of an `ins`) at `port`; nobody there reads as all ones.
    pub fn read(&self, port: u16, data: &mut [u8]) {
        let range = self.find(port);
        for byte in data {
            *byte = range.map_or(0xff, |range| range.device.read(port - range.start));
        }
    }

    /// Takes an `out` (or each byte of an `outs`) at `port`; nobody there drops it.
    pub fn write(&self, port: u16, data: &[u8]) {
        let Some(range) = self.find(port) else { return };
        for byte in data {
            range.device.write(port - range.start, *byte);
        }
    }

    fn find(&self, port: u16) -> Option<&Range> {
        self.ranges.iter().find(|range| (range.start..range.end).contains(&port))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU8, Ordering};

    #[derive(Default)]
    struct Register(AtomicU8);

    impl PortDevice for Register {
        fn read(&self, offset: u16) -> u8 {
            self.0.load(Ordering::Relaxed) + offset as u8
        }
        fn write(&self, offset: u16, value: u8) {
            self.0.store(value + offset as u8, Ordering::Relaxed);
        }
    }

    #[test]
    fn access_reaches_the_device_with_its_offset() {
        let mut bus = PortBus::default();
        bus.insert(0x100, 4, Arc::new(Register::default())).unwrap();
        bus.write(0x102, &[5]);
        let mut data = [0; 2];
        bus.read(0x101, &mut data);
        assert_eq!(data, [8, 8]);
    }

    #[test]
    fn access_beside_a_device_reads_ones() {
        let mut bus = PortBus::default();
        bus.insert(0x100, 4, Arc::new(Register::default())).unwrap();
        for port in [0, 0xff, 0x104, 0xffff] {
            let mut data = [0; 4];
            bus.write(port, &data);
            bus.read(port, &mut data);
            assert_eq!(data, [0xff; 4]);
        }
    }

    #[test]
    fn insert_overlap_is_refused() {
        let mut bus = PortBus::default();
        bus.insert(0x100, 4, Arc::new(Register::default())).unwrap();
        assert_eq!(bus.insert(0x103, 1, Arc::new(Register::default())), Err(Overlap { start: 0x103, end: 0x104 }));
        assert!(bus.insert(0x104, 1, Arc::new(Register::default())).is_ok());
    }
}
