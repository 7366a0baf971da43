// SPDX-License-Identifier: Apache-2.0
//! The MMIO bus: which device answers at which guest-physical address outside RAM.

use std::sync::Arc;

use super::Overlap;

/// A device with memory-mapped registers. Called on vCPU threads, several at a time, so a device
/// does its own locking and never waits for the main thread.
pub trait MmioDevice: Send + Sync {
    /// Fills `data`, 1 to 8 bytes, from `offset` bytes behind the device's first address.
    fn read(&self, offset: u64, data: &mut [u8]);
    /// Takes `data`, 1 to 8 bytes, at `offset` bytes behind the device's first address.
    fn write(&self, offset: u64, data: &[u8]);
}

struct Range {
    start: u64,
    end: u64,
    device: Arc<dyn MmioDevice>,
}

/// All memory-mapped devices of a VM.
#[derive(Default)]
pub struct MmioBus {
    ranges: Vec<Range>,
}

impl MmioBus {
    /// Puts `device` at `size` bytes from `start`.
    pub fn insert(&mut self, start: u64, size: u64, device: Arc<dyn MmioDevice>) -> Result<(), Overlap> {
        let end = start.saturating_add(size);
        if self.ranges.iter().any(|range| start < range.end && range.start < end) {
            return Err(Overlap { start, end });
        }
        self.ranges.push(Range { start, end, device });
        Ok(())
    }

    /// Answers a load; where no device is, or not for all of it, it reads as all ones.
    pub fn read(&self, address: u64, data: &mut [u8]) {
        match self.find(address, data.len()) {
            Some(range) => range.device.read(address - range.start, data),
            None => data.fill(0xff),
        }
    }

    /// Takes a store; where no device is, or not for all of it, it is lost.
    pub fn write(&self, address: u64, data: &[u8]) {
        if let Some(range) = self.find(address, data.len()) {
            range.device.write(address - range.start, data);
        }
    }

    fn find(&self, address: u64, len: usize) -> Option<&Range> {
        let range = self.ranges.iter().find(|range| (range.start..range.end).contains(&address))?;
        (len as u64 <= range.end - address).then_some(range)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[derive(Default)]
    struct Log(Mutex<Vec<(u64, Vec<u8>)>>);

    impl MmioDevice for Log {
        fn read(&self, offset: u64, data: &mut [u8]) {
            data.fill(offset as u8);
        }
        fn write(&self, offset: u64, data: &[u8]) {
            self.0.lock().unwrap().push((offset, data.to_vec()));
        }
    }

    #[test]
    fn access_reaches_the_device_with_its_offset() {
        let (mut bus, log) = (MmioBus::default(), Arc::new(Log::default()));
        bus.insert(0x1000, 0x1000, log.clone()).unwrap();
        bus.write(0x1008, &[1, 2]);
        assert_eq!(log.0.lock().unwrap().as_slice(), [(8, vec![1, 2])]);
        let mut data = [0; 4];
        bus.read(0x1010, &mut data);
        assert_eq!(data, [0x10; 4]);
    }

    #[test]
    fn access_beside_or_across_the_edge_reads_ones_and_is_lost() {
        let (mut bus, log) = (MmioBus::default(), Arc::new(Log::default()));
        bus.insert(0x1000, 0x1000, log.clone()).unwrap();
        for address in [0, 0xfff, 0x1ffd, 0x2000, u64::MAX] {
            let mut data = [0; 4];
            bus.write(address, &data);
            bus.read(address, &mut data);
            assert_eq!(data, [0xff; 4], "{address:#x}");
        }
        assert!(log.0.lock().unwrap().is_empty());
    }

    #[test]
    fn insert_overlap_is_refused() {
        let mut bus = MmioBus::default();
        bus.insert(0x1000, 0x1000, Arc::new(Log::default())).unwrap();
        let expected = Err(Overlap { start: 0x1fff, end: 0x2fff });
        assert_eq!(bus.insert(0x1fff, 0x1000, Arc::new(Log::default())), expected);
        assert!(bus.insert(0x2000, 0x1000, Arc::new(Log::default())).is_ok());
    }
}
