// SPDX-License-Identifier: Apache-2.0
//! One queue's buffers, one after the other.

use std::sync::atomic::{Ordering, fence};

use virtio_bindings::virtio_ring::VRING_AVAIL_F_NO_INTERRUPT;
use virtio_queue::{Error, Queue, QueueOwnedT, QueueT};
use vm_memory::{Address, Bytes, GuestAddress};

use super::{Chain, DeviceError, Turn};
use crate::memory::GuestMemory;

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// It is done; so many bytes were written to its buffers.
    Done(u32),
    /// It cannot be done now and stays in the queue; so do those behind it.
    Stop,
}

/// Serves `queue`, number `index`, until it is empty or the turn is over; true if the driver wants an
/// interrupt.
///
/// # Errors
/// The ring is broken, or whatever `handle` says.
pub fn serve(
    queue: &mut Queue,
    index: usize,
    memory: &GuestMemory,
    turn: &mut Turn,
    mut handle: impl FnMut(Chain<'_>, &mut Turn) -> Result<Flow, DeviceError>,
) -> Result<bool, DeviceError> {
    let broken = |source| DeviceError::Queue { index, source };
    let first = queue.next_used();
    loop {
        queue.disable_notification(memory).map_err(broken)?;
        // iter() sees that the avail index has not run further ahead than the queue is long.
        while let Some(chain) = queue.iter(memory).map_err(broken)?.next() {
            let chain = Chain::new(chain, queue.max_size());
            let head = chain.head();
            let flow = if turn.is_over() { Flow::Stop } else { handle(chain, turn)? };
            match flow {
                Flow::Done(len) => queue.add_used(memory, head, len).map_err(broken)?,
                Flow::Stop => {
                    queue.go_to_previous_position();
                    return wants_interrupt(queue, memory, first).map_err(broken);
                }
            }
        }
        if !queue.enable_notification(memory).map_err(broken)? {
            return wants_interrupt(queue, memory, first).map_err(broken);
        }
    }
}

/// Pops the next buffer of `queue`, number `index`, for as long as the device likes. None if there
/// is no further one; the driver then notifies of the next.
///
/// # Errors
/// The ring is broken.
pub(super) fn pop<'m>(
    queue: &mut Queue,
    index: usize,
    memory: &'m GuestMemory,
) -> Result<Option<Chain<'m>>, DeviceError> {
    let broken = |source| DeviceError::Queue { index, source };
    loop {
        if let Some(chain) = queue.iter(memory).map_err(broken)?.next() {
            queue.disable_notification(memory).map_err(broken)?;
            return Ok(Some(Chain::new(chain, queue.max_size())));
        }
        if !queue.enable_notification(memory).map_err(broken)? {
            return Ok(None);
        }
    }
}

/// Adds popped buffers to the used ring, as heads and numbers of bytes written. The driver
/// sees all of them at once or none, as it must see the buffers of one frame (virtio 1.2, 5.1.6.4).
/// True if it wants an interrupt.
///
/// # Errors
/// The ring is broken.
pub(super) fn add_used(
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
    wants_interrupt(queue, memory, old).map_err(broken)
}

/// Whether the driver wants to hear of the used entries from `old` on (2.7.7.1). The crate's own
/// `needs_notification` overlooks VRING_AVAIL_F_NO_INTERRUPT.
fn wants_interrupt(queue: &Queue, memory: &GuestMemory, old: u16) -> Result<bool, Error> {
    let new = queue.next_used();
    if new == old {
        return Ok(false);
    }
    // The driver reads the index after it has said what it wants to hear of.
    fence(Ordering::SeqCst);
    let load = |offset| {
        let place = at(queue.avail_ring(), offset)?;
        memory.load(place, Ordering::Relaxed).map(u16::from_le).map_err(Error::GuestMemory)
    };
    if queue.event_idx_enabled() {
        let event = load(4 + 2 * u64::from(queue.size()))?;
        return Ok(new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old));
    }
    Ok(u32::from(load(0)?) & VRING_AVAIL_F_NO_INTERRUPT == 0)
}

fn at(ring: u64, offset: u64) -> Result<GuestAddress, Error> {
    GuestAddress(ring).checked_add(offset).ok_or(Error::AddressOverflow)
}
