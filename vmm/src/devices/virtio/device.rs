// SPDX-License-Identifier: Apache-2.0
//! What a virtio device is to its transport, and the other way round.

use std::os::fd::RawFd;

use virtio_queue::{Queue, QueueT};

use super::queue::{self, Flow};
use super::{Chain, Interrupt, Turn};
use crate::memory::GuestMemory;

/// A device behind any virtio transport.
///
/// All calls come under the transport's lock, from vCPU threads and the main thread. A device may
/// block for as long as a disk does, and never waits for another thread of this process.
pub trait VirtioDevice: Send + 'static {
    /// The device type (virtio 1.2, section 5: 1 net, 2 block, 4 entropy, 19 socket).
    const TYPE: u32;
    /// The largest size of each queue, powers of two up to 32768.
    const QUEUES: &'static [u16];

    /// The device's own feature bits; the transport adds those of the rings.
    fn features(&self) -> u64;

    /// The configuration space as it is at this moment; it may grow while the VM runs but never shrink.
    fn config(&self) -> &[u8];

    /// The driver is ready: `features` are what it took. Descriptors may have been readable before.
    ///
    /// # Errors
    /// The device cannot work and asks for a reset.
    fn activate(&mut self, features: u64, rings: &mut Rings) -> Result<(), DeviceError>;

    /// The driver has put buffers into queue `index`.
    ///
    /// # Errors
    /// As for [`Self::activate`].
    fn notify(&mut self, index: usize, rings: &mut Rings) -> Result<(), DeviceError>;

    /// Descriptors for the main thread to watch, edge-triggered, for input and output.
    fn descriptors(&self) -> Vec<RawFd> {
        Vec::new()
    }

    /// Something may have happened on the host's side: a descriptor became ready, or the VM goes on
    /// after a pause, in which events were lost. The device looks at everything it waits for, and
    /// takes all there is: it hears no second time of what it leaves.
    ///
    /// # Errors
    /// As for [`Self::activate`].
    fn host_event(&mut self, _rings: &mut Rings) -> Result<(), DeviceError> {
        Ok(())
    }

    /// The driver has reset the device: forget everything that it said.
    fn reset(&mut self);
}

/// The driver has broken a rule that leaves the device with nothing sane to do. The driver is told
/// (DEVICE_NEEDS_RESET), and the device does nothing until it is reset.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// A ring lies outside guest memory, or its indices make no sense.
    #[error("Queue {index} is broken")]
    Queue {
        /// The queue's number.
        index: usize,
        /// What is wrong with it.
        source: virtio_queue::Error,
    },
    /// Anything else.
    #[error("{0}")]
    Other(&'static str),
}

/// What an active device works on.
pub struct Rings<'a> {
    /// Guest memory.
    pub memory: &'a GuestMemory,
    pub(super) queues: &'a mut [Queue],
    pub(super) interrupt: &'a Interrupt,
}

impl<'a> Rings<'a> {
    /// Gives each available buffer of queue `index` to `handle`, adds it to the used ring with
    /// the number of bytes that `handle` says it has written, and interrupts the driver if it wants
    /// to know. Returns when the queue is empty, when `turn` is over, or when `handle` says [`Flow::Stop`].
    ///
    /// # Errors
    /// The ring is broken, or whatever `handle` says.
    pub fn serve(
        &mut self,
        index: usize,
        turn: &mut Turn,
        handle: impl FnMut(Chain<'_>, &mut Turn) -> Result<Flow, DeviceError>,
    ) -> Result<(), DeviceError> {
        let memory = self.memory;
        let Some(queue) = self.ready(index) else { return Ok(()) };
        let result = queue::serve(queue, index, memory, turn, handle);
        if matches!(result, Ok(true) | Err(_)) {
            self.interrupt.used_buffers();
        }
        result.map(|_| ())
    }

    /// Pops the next buffer of queue `index`, for a device that gathers several before it knows how
    /// many it needs. None if there is no further one; the driver then notifies of the next.
    ///
    /// # Errors
    /// The ring is broken.
    pub fn pop(&mut self, index: usize) -> Result<Option<Chain<'a>>, DeviceError> {
        let memory = self.memory;
        self.ready(index).map_or(Ok(None), |queue| queue::pop(queue, index, memory))
    }

    /// Adds popped buffers to the used ring, all at once, as heads and numbers of bytes
    /// written, and interrupts the driver if it wants to know.
    ///
    /// # Errors
    /// The ring is broken.
    pub fn add_used(&mut self, index: usize, used: &[(u16, u32)]) -> Result<(), DeviceError> {
        let memory = self.memory;
        let Some(queue) = self.ready(index) else { return Ok(()) };
        if queue::add_used(queue, index, memory, used)? {
            self.interrupt.used_buffers();
        }
        Ok(())
    }

    /// The number of buffers that queue `index` has at most.
    pub fn size(&self, index: usize) -> usize {
        self.queues.get(index).map_or(0, |queue| QueueT::size(queue).into())
    }

    fn ready(&mut self, index: usize) -> Option<&mut Queue> {
        self.queues.get_mut(index).filter(|queue| queue.ready())
    }
}
