//! One queue's buffers, one after the other.

use std::sync::atomic::{Ordering, fence};

use virtio_bindings::virtio_ring::VRING_AVAIL_F_NO_INTERRUPT;
use virtio_queue::{DescriptorChain, Error, Queue, QueueOwnedT, QueueT};
use vm_memory::{Address, Bytes, GuestAddress, GuestMemoryError};

use super::DeviceError;
use crate::memory::GuestMemory;

/// One request: descriptors that the driver has chained.
pub type Chain<'a> = DescriptorChain<&'a GuestMemory>;

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// It is done; so many bytes were written to its buffers.
    Done(u32),
    /// It cannot be done now and stays in the queue; so do those behind it.
    Stop,
}

/// Serves `queue`, number `index`, until it is empty; true if the driver wants an interrupt.
///
/// # Errors
/// The ring is broken, or whatever `handle` says.
pub fn serve(
    queue: &mut Queue,
    index: usize,
    memory: &GuestMemory,
    mut handle: impl FnMut(Chain<'_>) -> Result<Flow, DeviceError>,
) -> Result<bool, DeviceError> {
    let broken = |source| DeviceError::Queue { index, source };
    let mut used = false;
    loop {
        queue.disable_notification(memory).map_err(broken)?;
        // iter() sees that the avail index has not run further ahead than the queue is long.
        while let Some(chain) = queue.iter(memory).map_err(broken)?.next() {
            let head = chain.head_index();
            match handle(chain)? {
                Flow::Done(len) => queue.add_used(memory, head, len).map_err(broken)?,
                Flow::Stop => {
                    queue.go_to_previous_position();
                    return Ok(used && queue.needs_notification(memory).map_err(broken)?);
                }
            }
            used = true;
        }
        if !queue.enable_notification(memory).map_err(broken)? {
            return Ok(used && queue.needs_notification(memory).map_err(broken)?);
        }
    }
}

/// Takes the next buffer of `queue`, number `index`, for as long as the device likes. None if there
/// is no further one; the driver then notifies of the next.
///
/// # Errors
/// The ring is broken.
pub(super) fn take<'m>(
    queue: &mut Queue,
    index: usize,
    memory: &'m GuestMemory,
) -> Result<Option<Chain<'m>>, DeviceError> {
    let broken = |source| DeviceError::Queue { index, source };
    loop {
        if let Some(chain) = queue.iter(memory).map_err(broken)?.next() {
            queue.disable_notification(memory).map_err(broken)?;
            return Ok(Some(chain));
        }
        if !queue.enable_notification(memory).map_err(broken)? {
            return Ok(None);
        }
    }
}

/// Puts buffers that were taken into the used ring, as heads and numbers of bytes written. The driver
/// sees all of them at once or none, as it must see the buffers of one frame (virtio 1.2, 5.1.6.4).
/// True if it wants an interrupt.
///
/// # Errors
/// The ring is broken.
pub(super) fn put(
    queue: &mut Queue,
    index: usize,
    memory: &GuestMemory,
    used: &[(u16, u32)],
) -> Result<bool, DeviceError> {
    let broken = |source| DeviceError::Queue { index, source };
    let old = queue.next_used();
    let mut new = old;
    for (head, len) in used {
        if *head >= queue.size() {
            return Err(broken(Error::InvalidDescriptorIndex));
        }
        let place = at(queue.used_ring(), 4 + 8 * u64::from(new % queue.size())).map_err(broken)?;
        // An element is two words, id and length.
        let element = u64::from(*head) | u64::from(*len) << 32;
        memory.write_obj(element.to_le(), place).map_err(|err| broken(Error::GuestMemory(err)))?;
        new = new.wrapping_add(1);
    }
    let place = at(queue.used_ring(), 2).map_err(broken)?;
    memory.store(new.to_le(), place, Ordering::Release).map_err(|err| broken(Error::GuestMemory(err)))?;
    queue.set_next_used(new);
    // The driver reads the index after it has said what it wants to hear of.
    fence(Ordering::SeqCst);
    wants_interrupt(queue, memory, old, new).map_err(|err| broken(Error::GuestMemory(err)))
}

/// Whether the driver wants to hear of used entries from `old` until before `new` (2.7.7.1).
fn wants_interrupt(queue: &Queue, memory: &GuestMemory, old: u16, new: u16) -> Result<bool, GuestMemoryError> {
    let load = |offset| memory.load(GuestAddress(queue.avail_ring().saturating_add(offset)), Ordering::Relaxed);
    if queue.event_idx_enabled() {
        let event = u16::from_le(load(4 + 2 * u64::from(queue.size()))?);
        return Ok(new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old));
    }
    Ok(u32::from(u16::from_le(load(0)?)) & VRING_AVAIL_F_NO_INTERRUPT == 0)
}

fn at(ring: u64, offset: u64) -> Result<GuestAddress, Error> {
    GuestAddress(ring).checked_add(offset).ok_or(Error::AddressOverflow)
}
