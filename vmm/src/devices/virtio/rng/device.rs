// SPDX-License-Identifier: Apache-2.0
//! One queue of buffers to fill.

use std::fs::File;
use std::io;
use std::os::fd::RawFd;

use secretvmm_api::Entropy;
use virtio_bindings::virtio_ids::VIRTIO_ID_RNG;
use virtio_queue::desc::split::Descriptor;
use vm_memory::Bytes;

use crate::devices::RateLimiter;
use crate::devices::virtio::{Chain, DeviceError, Flow, Rings, Turns, VirtioDevice};
use crate::memory::GuestMemory;

/// The most bytes that one request gets, which a driver takes for all there are at the moment.
const REQUEST_MAX: usize = 64 << 10;
const QUEUE_SIZE: u16 = 256;

/// Fills buffers with random bytes.
#[derive(Debug)]
pub struct Rng {
    source: File,
    limiter: RateLimiter,
    turns: Turns,
}

impl Rng {
    /// Opens the host's source of random numbers.
    ///
    /// # Errors
    /// /dev/urandom cannot be opened, or the host gives no timer or event descriptor.
    pub fn open(entropy: &Entropy) -> io::Result<Self> {
        let limiter = RateLimiter::new(entropy.rate_limiter.as_ref())?;
        Ok(Self { source: File::open("/dev/urandom")?, limiter, turns: Turns::new()? })
    }

    /// Fills a request's writable buffers, unless the limits say not now.
    fn serve(&mut self, chain: Chain, memory: &GuestMemory) -> Flow {
        // Read once, so that what is filled is what was counted.
        let buffers: Vec<_> = chain.writable().collect();
        let wanted: u64 = buffers.iter().map(|buffer| u64::from(buffer.len())).sum();
        if !self.limiter.consume(wanted.min(REQUEST_MAX as u64)) {
            return Flow::Stop;
        }
        Flow::Done(self.fill(&buffers, memory))
    }

    /// Fills buffers, straight in guest memory; the number of bytes.
    fn fill(&mut self, buffers: &[Descriptor], memory: &GuestMemory) -> u32 {
        let mut filled = 0;
        for buffer in buffers {
            let len = (buffer.len() as usize).min(REQUEST_MAX - filled);
            match memory.read_volatile_from(buffer.addr(), &mut self.source, len) {
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
    const QUEUES: &'static [u16] = &[QUEUE_SIZE];

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
        let mut turn = self.turns.begin();
        rings.serve(0, &mut turn, |chain, _| Ok(self.serve(chain, memory)))
    }

    fn descriptors(&self) -> Vec<RawFd> {
        vec![self.turns.descriptor(), self.limiter.descriptor()]
    }

    fn host_event(&mut self, rings: &mut Rings) -> Result<(), DeviceError> {
        self.notify(0, rings)
    }

    fn reset(&mut self) {}
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use secretvmm_api::{RateLimiter, TokenBucket};
    use virtio_bindings::virtio_mmio::VIRTIO_MMIO_QUEUE_NOTIFY;

    use std::time::Duration;

    use super::{Entropy, REQUEST_MAX, Rng};
    use crate::devices::virtio::testing::{BUFFERS, Driver, WRITE};
    use crate::devices::virtio::{ConfigChange, HostSide};

    fn driver() -> Driver<Rng> {
        Driver::active(Rng::open(&Entropy::default()).unwrap(), 0)
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

    #[test]
    fn request_over_the_limit_waits_in_the_queue() {
        let hour = 3_600_000;
        let ops = Some(TokenBucket { size: 1, one_time_burst: None, refill_time: hour });
        let bandwidth = Some(TokenBucket { size: 100, one_time_burst: None, refill_time: hour });
        for limits in [RateLimiter { bandwidth: None, ops }, RateLimiter { bandwidth, ops: None }] {
            let rng = Rng::open(&Entropy { rate_limiter: Some(limits) }).unwrap();
            let driver = Driver::active(rng, 0);
            driver.send(0, 0, &[(BUFFERS, 64, true)]);
            driver.send(0, 1, &[(BUFFERS + 0x1000, 64, true)]);
            assert_eq!(driver.used(0), [(0, 64)]);
            driver.transport.host_event();
            assert_eq!(driver.used(0), [(0, 64)]);
            let none = TokenBucket { size: 0, one_time_burst: None, refill_time: 0 };
            let none = RateLimiter { bandwidth: Some(none), ops: Some(none) };
            driver.transport.change(|rng| (rng.limiter.update(&none), ConfigChange::No));
            driver.transport.host_event();
            assert_eq!(driver.used(0), [(0, 64), (1, 64)]);
        }
    }

    #[test]
    fn long_queue_is_served_in_turns() {
        let driver = driver();
        driver.transport.change(|rng| (rng.turns.set_length(Duration::ZERO), ConfigChange::No));
        driver.descriptor(0, 0, BUFFERS, 64, WRITE, 0);
        (0..3).for_each(|_| driver.offer(0, 0));
        driver.write(VIRTIO_MMIO_QUEUE_NOTIFY, 0);
        assert_eq!(driver.used(0).len(), 1);
        assert!(driver.interrupted());
        driver.transport.host_event();
        driver.transport.host_event();
        assert_eq!(driver.used(0).len(), 3);
    }
}
