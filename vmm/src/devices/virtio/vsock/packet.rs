// SPDX-License-Identifier: Apache-2.0
//! Packets in guest memory (virtio 1.2, section 5.10.6), however the driver cuts them into buffers.

use vm_memory::{GuestMemoryBackend, VolatileSlice};

use crate::devices::virtio::Chain;
use crate::memory::GuestMemory;

/// The host's context id.
pub(super) const HOST_CID: u64 = 2;
/// "Any port" of vsock(7), which no packet may carry.
pub(super) const PORT_ANY: u32 = u32::MAX;
/// The one kind of socket there is here.
pub(super) const STREAM: u16 = 1;
/// Bytes of a header.
pub(super) const HEADER_SIZE: usize = 44;
/// The most bytes behind a header.
pub(super) const PAYLOAD_MAX: usize = 64 << 10;
/// The most buffers of one packet. Linux cuts one into a header, a head and its fragments, 45 at most.
const BUFFERS_MAX: usize = 64;

/// What a packet is for.
pub(super) mod op {
    pub(crate) const REQUEST: u16 = 1;
    pub(crate) const RESPONSE: u16 = 2;
    pub(crate) const RST: u16 = 3;
    pub(crate) const SHUTDOWN: u16 = 4;
    pub(crate) const RW: u16 = 5;
    pub(crate) const CREDIT_UPDATE: u16 = 6;
    pub(crate) const CREDIT_REQUEST: u16 = 7;
}

/// Flags of SHUTDOWN: its sender receives no more, or sends no more.
pub(super) const NO_RECEIVE: u32 = 1 << 0;
pub(super) const NO_SEND: u32 = 1 << 1;

/// The header of a packet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) src_cid: u64,
    pub(super) dst_cid: u64,
    pub(super) src_port: u32,
    pub(super) dst_port: u32,
    /// Bytes behind the header.
    pub(super) len: u32,
    /// Stream, or something that this device does not have.
    pub(super) kind: u16,
    pub(super) op: u16,
    pub(super) flags: u32,
    /// The size of the sender's buffer for this connection, in bytes.
    pub(super) buf_alloc: u32,
    /// The bytes that have ever left this buffer, modulo 2³².
    pub(super) fwd_cnt: u32,
}

impl Header {
    pub(super) fn from_bytes(bytes: &[u8; HEADER_SIZE]) -> Self {
        Self {
            src_cid: u64::from_le_bytes(field(bytes, 0)),
            dst_cid: u64::from_le_bytes(field(bytes, 8)),
            src_port: u32::from_le_bytes(field(bytes, 16)),
            dst_port: u32::from_le_bytes(field(bytes, 20)),
            len: u32::from_le_bytes(field(bytes, 24)),
            kind: u16::from_le_bytes(field(bytes, 28)),
            op: u16::from_le_bytes(field(bytes, 30)),
            flags: u32::from_le_bytes(field(bytes, 32)),
            buf_alloc: u32::from_le_bytes(field(bytes, 36)),
            fwd_cnt: u32::from_le_bytes(field(bytes, 40)),
        }
    }

    pub(super) fn to_bytes(self) -> [u8; HEADER_SIZE] {
        let mut bytes = [0; HEADER_SIZE];
        bytes[0..8].copy_from_slice(&self.src_cid.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.dst_cid.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.src_port.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.dst_port.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.len.to_le_bytes());
        bytes[28..30].copy_from_slice(&self.kind.to_le_bytes());
        bytes[30..32].copy_from_slice(&self.op.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.flags.to_le_bytes());
        bytes[36..40].copy_from_slice(&self.buf_alloc.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.fwd_cnt.to_le_bytes());
        bytes
    }
}

fn field<const N: usize>(bytes: &[u8; HEADER_SIZE], at: usize) -> [u8; N] {
    std::array::from_fn(|index| bytes[at + index])
}

/// A packet from the guest. The header is read once; what the guest does to its memory afterwards
/// changes data, and nothing that was checked.
#[derive(Debug)]
pub(super) struct Packet<'a> {
    pub(super) header: Header,
    buffers: Buffers<'a>,
}

impl<'a> Packet<'a> {
    /// None if the chain does not hold a header.
    pub(super) fn read(chain: Chain<'_>, memory: &'a GuestMemory) -> Option<Self> {
        let readable = chain.readable().map(|descriptor| (descriptor.addr(), descriptor.len()));
        let buffers = Buffers::collect(memory, readable)?;
        if buffers.len() < HEADER_SIZE {
            return None;
        }
        let mut bytes = [0; HEADER_SIZE];
        let mut at = 0;
        for slice in buffers.range(0, HEADER_SIZE) {
            at += slice.copy_to(&mut bytes[at..]);
        }
        Some(Self { header: Header::from_bytes(&bytes), buffers })
    }

    /// Whether there are as many bytes as the header says.
    pub(super) fn is_whole(&self) -> bool {
        self.len() <= PAYLOAD_MAX && self.buffers.len() - HEADER_SIZE >= self.len()
    }

    /// Bytes behind the header, in the driver's words.
    pub(super) fn len(&self) -> usize {
        self.header.len as usize
    }

    /// The data from byte `from`.
    pub(super) fn payload(&self, from: usize) -> impl Iterator<Item = VolatileSlice<'a>> {
        self.buffers.range(HEADER_SIZE + from, self.len().saturating_sub(from))
    }
}

/// Where a packet to the guest goes.
#[derive(Debug)]
pub(super) struct Space<'a> {
    buffers: Buffers<'a>,
}

impl<'a> Space<'a> {
    /// None if the chain is too short for a header and one byte.
    pub(super) fn new(chain: Chain<'_>, memory: &'a GuestMemory) -> Option<Self> {
        let writable = chain.writable().map(|descriptor| (descriptor.addr(), descriptor.len()));
        let buffers = Buffers::collect(memory, writable)?;
        (buffers.len() > HEADER_SIZE).then_some(Self { buffers })
    }

    /// Memory for `max` bytes of data, if there is as much.
    pub(super) fn payload(&self, max: usize) -> impl Iterator<Item = VolatileSlice<'a>> {
        self.buffers.range(HEADER_SIZE, max)
    }

    pub(super) fn write_header(&self, header: &Header) {
        let bytes = header.to_bytes();
        let mut at = 0;
        for slice in self.buffers.range(0, HEADER_SIZE) {
            slice.copy_from(&bytes[at..at + slice.len()]);
            at += slice.len();
        }
    }
}

/// The buffers of one chain, as far as a packet can use them.
#[derive(Debug)]
struct Buffers<'a>(Vec<VolatileSlice<'a>>);

impl<'a> Buffers<'a> {
    /// None if one is outside of memory, or if there are too many.
    fn collect(
        memory: &'a GuestMemory,
        descriptors: impl Iterator<Item = (vm_memory::GuestAddress, u32)>,
    ) -> Option<Self> {
        let mut slices = Vec::with_capacity(2);
        let mut left = HEADER_SIZE + PAYLOAD_MAX;
        for (address, len) in descriptors {
            let len = left.min(len as usize);
            if len == 0 {
                continue;
            }
            if slices.len() == BUFFERS_MAX {
                return None;
            }
            slices.push(memory.get_slice(address, len).ok()?);
            left -= len;
        }
        Some(Self(slices))
    }

    fn len(&self) -> usize {
        self.0.iter().map(VolatileSlice::len).sum()
    }

    /// `len` bytes from byte `start`, or fewer if there are no more.
    fn range(&self, start: usize, len: usize) -> impl Iterator<Item = VolatileSlice<'a>> {
        let (mut skip, mut left) = (start, len);
        self.0.iter().filter_map(move |slice| {
            let from = skip.min(slice.len());
            let count = left.min(slice.len() - from);
            skip -= from;
            left -= count;
            if count == 0 { None } else { slice.subslice(from, count).ok() }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_survives_the_way_through_bytes() {
        let bytes: [u8; HEADER_SIZE] = std::array::from_fn(|index| index as u8);
        let header = Header::from_bytes(&bytes);
        assert_eq!(header.src_cid, 0x0706_0504_0302_0100);
        assert_eq!((header.kind, header.op), (0x1d1c, 0x1f1e));
        assert_eq!(header.fwd_cnt, 0x2b2a_2928);
        assert_eq!(header.to_bytes(), bytes);
    }
}
