//! One queue's buffers, one after the other.

use virtio_queue::{DescriptorChain, Queue, QueueOwnedT, QueueT};

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
