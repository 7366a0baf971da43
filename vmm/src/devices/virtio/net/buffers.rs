// SPDX-License-Identifier: Apache-2.0
//! Buffers of the guest's that wait for frames.

use std::collections::VecDeque;

use vm_memory::{GuestAddress, GuestMemoryBackend};

use super::HEADER_SIZE;
use super::tap::{PIECES_MAX, Pieces};
use crate::devices::virtio::{DeviceError, Rings};

/// Where the header counts a frame's buffers (virtio 1.2, 5.1.6).
const NUM_BUFFERS: usize = 10;

/// Taken from the receive queue in the driver's order. A frame's length is not known before it is
/// read, so that as many lie ready as the longest needs; the others serve the next.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    chains: VecDeque<Posted>,
    segments: VecDeque<(GuestAddress, u32)>,
    /// Bytes in all of them.
    capacity: usize,
    /// Of the last frame, kept for its allocation.
    used: Vec<(u16, u32)>,
}

/// One of the driver's chains.
#[derive(Debug)]
struct Posted {
    head: u16,
    len: u32,
    segments: u16,
}

/// What the driver makes ready for frames.
#[derive(Debug, Clone, Copy)]
pub(super) struct Need {
    /// The longest frame with its header.
    pub(super) frame: usize,
    /// A frame may lie in several chains (VIRTIO_NET_F_MRG_RXBUF).
    pub(super) merge: bool,
}

/// What has become of an attempt to have buffers ready for a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gathered {
    /// They are.
    Enough,
    /// The guest has to give more first.
    TooLittle,
    /// A chain that nothing can be written to was given back; others may be behind it.
    Useless,
}

impl Buffers {
    /// Takes from queue `index` what a frame needs, up to the first chain that is of no use: a guest can
    /// give such chains without end.
    pub(super) fn gather(&mut self, rings: &mut Rings, index: usize, need: Need) -> Result<Gathered, DeviceError> {
        while !self.suffices(need, rings.size(index)) {
            let Some(chain) = rings.pop(index)? else { return Ok(Gathered::TooLittle) };
            let head = chain.head();
            let mut posted = Posted { head, len: 0, segments: 0 };
            for descriptor in chain.writable() {
                let len = descriptor.len().min((need.frame as u32).saturating_sub(posted.len));
                // What is no memory ends the chain, as does one piece too many.
                let fits = self.segments.len() < PIECES_MAX;
                if len == 0 || !fits || !rings.memory.check_range(descriptor.addr(), len as usize) {
                    break;
                }
                self.segments.push_back((descriptor.addr(), len));
                posted.len += len;
                posted.segments += 1;
            }
            if posted.len == 0 {
                rings.add_used(index, &[(head, 0)])?;
                return Ok(Gathered::Useless);
            }
            self.capacity += posted.len as usize;
            self.chains.push_back(posted);
        }
        Ok(Gathered::Enough)
    }

    /// Whether a frame can be read; whatever the guest's buffers are like, it never gives more than
    /// `size` at once.
    fn suffices(&self, need: Need, size: usize) -> bool {
        let full = self.chains.len() >= size || self.segments.len() >= PIECES_MAX;
        !self.chains.is_empty() && (!need.merge || self.capacity >= need.frame || full)
    }

    /// The memory for the next frame.
    pub(super) fn pieces(&self, need: Need, pieces: &mut Pieces) {
        pieces.clear();
        let count = match self.chains.front() {
            Some(first) if !need.merge => first.segments.into(),
            _ => self.segments.len(),
        };
        for (address, len) in self.segments.iter().take(count) {
            // They were looked at when they were taken; a VM's memory stays as it is.
            if !pieces.push(*address, *len as usize) {
                break;
            }
        }
    }

    /// Gives the driver a frame of `len` bytes with its header, which lies in `pieces`.
    pub(super) fn fill(
        &mut self,
        rings: &mut Rings,
        index: usize,
        len: usize,
        pieces: &Pieces,
    ) -> Result<(), DeviceError> {
        self.used.clear();
        let mut rest = len;
        while let Some(posted) = self.chains.front().filter(|_| rest > 0) {
            let part = rest.min(posted.len as usize);
            rest -= part;
            self.used.push((posted.head, part as u32));
            self.capacity -= posted.len as usize;
            self.segments.drain(..usize::from(posted.segments));
            self.chains.pop_front();
        }
        pieces.copy_in(NUM_BUFFERS, &(self.used.len() as u16).to_le_bytes());
        debug_assert!(len >= HEADER_SIZE);
        rings.add_used(index, &self.used)
    }

    /// Forgets all: the driver has reset the device.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}
