// SPDX-License-Identifier: Apache-2.0
//! One request of the driver's, as a chain of descriptors.

use virtio_queue::DescriptorChain;
use virtio_queue::desc::split::Descriptor;

use crate::memory::GuestMemory;

/// The descriptors that a driver has chained, each read when it is asked for.
///
/// There are never more than the queue is long (virtio 1.2, 2.7.5.3.1): an indirect table could hold 65535
/// of them, and the device would walk through it for nothing.
#[derive(Debug, Clone)]
pub struct Chain<'a> {
    head: u16,
    rest: std::iter::Take<DescriptorChain<&'a GuestMemory>>,
}

impl<'a> Chain<'a> {
    pub(super) fn new(chain: DescriptorChain<&'a GuestMemory>, longest: u16) -> Self {
        Self { head: chain.head_index(), rest: chain.take(longest.into()) }
    }

    /// The number of the first descriptor.
    pub fn head(&self) -> u16 {
        self.head
    }

    /// Those that the device reads.
    pub fn readable(self) -> impl Iterator<Item = Descriptor> {
        self.filter(|descriptor| !descriptor.is_write_only())
    }

    /// Those that the device writes to.
    pub fn writable(self) -> impl Iterator<Item = Descriptor> {
        self.filter(Descriptor::is_write_only)
    }
}

impl Iterator for Chain<'_> {
    type Item = Descriptor;

    fn next(&mut self) -> Option<Descriptor> {
        self.rest.next()
    }
}
