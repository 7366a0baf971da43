//! One queue of buffers to fill.

use std::fs::File;
use std::io;

use virtio_bindings::virtio_ids::VIRTIO_ID_RNG;
use vm_memory::Bytes;

use crate::devices::virtio::{Chain, DeviceError, Flow, Rings, VirtioDevice};
use crate::memory::GuestMemory;

/// The most bytes that one request gets, which a driver takes for all there are at the moment.
const REQUEST_MAX: usize = 64 << 10;

/// Fills buffers with random bytes.
#[derive(Debug)]
pub struct Rng {
    source: File,
}

impl Rng {
    /// Opens the host's source of random numbers.
    ///
    /// # Errors
    /// /dev/urandom cannot be opened.
    pub fn open() -> io::Result<Self> {
        Ok(Self { source: File::open("/dev/urandom")? })
    }

    /// Fills a request's writable buffers, straight into guest memory; the number of bytes.
    fn fill(&mut self, chain: Chain, memory: &GuestMemory) -> u32 {
        let mut filled = 0;
        for descriptor in chain.writable() {
            let len = (descriptor.len() as usize).min(REQUEST_MAX - filled);
            match memory.read_volatile_from(descriptor.addr(), &mut self.source, len) {
                Ok(count) => filled += count,
                // A buffer outside of memory, or no random numbers: what was filled counts.
                Err(_) => break,
            }
        }
        filled as u32
    }
}

impl VirtioDevice for Rng {
    const TYPE: u32 = VIRTIO_ID_RNG;
    const QUEUES: &'static [u16] = &[256];

    fn features(&self) -> u64 {
        0
    }

    fn config(&self) -> &[u8] {
        &[]
    }

    fn activate(&mut self, _features: u64, rings: &mut Rings) -> Result<(), DeviceError> {
        self.notify(0, rings)
    }

    fn notify(&mut self, _index: usize, rings: &mut Rings) -> Result<(), DeviceError> {
        let memory = rings.memory;
        rings.serve(0, |chain| Ok(Flow::Done(self.fill(chain, memory))))
    }

    fn reset(&mut self) {}
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::devices::virtio::testing::{BUFFERS, Driver};

    fn driver() -> Driver<Rng> {
        Driver::active(Rng::open().unwrap(), 0)
    }

    #[test]
    fn request_is_filled_and_interrupts() {
        let driver = driver();
        driver.send(0, 0, &[(BUFFERS, 64, true), (BUFFERS + 0x1000, 64, true)]);
        assert_eq!(driver.used(0), [(0, 128)]);
        assert!(driver.interrupted());
        assert_ne!(driver.bytes(BUFFERS, 64), [0; 64]);
        assert_ne!(driver.bytes(BUFFERS + 0x1000, 64), [0; 64]);
    }

    #[test]
    fn request_without_writable_buffers_gets_nothing() {
        let driver = driver();
        driver.send(0, 3, &[(BUFFERS, 64, false)]);
        assert_eq!(driver.used(0), [(3, 0)]);
        assert_eq!(driver.bytes(BUFFERS, 64), [0; 64]);
    }

    #[test]
    fn request_outside_memory_or_huge_is_cut_short() {
        let driver = driver();
        driver.send(0, 0, &[(1 << 40, 64, true)]);
        driver.send(0, 1, &[(BUFFERS, u32::MAX, true)]);
        assert_eq!(driver.used(0), [(0, 0), (1, REQUEST_MAX as u32)]);
    }
}
