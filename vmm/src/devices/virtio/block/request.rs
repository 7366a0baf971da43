// SPDX-License-Identifier: Apache-2.0
//! A chain of descriptors as a request (5.2.6): header, data, status.

use vm_memory::{GuestMemoryBackend, VolatileSlice};

use crate::devices::virtio::Chain;
use crate::memory::GuestMemory;

/// type, reserved, sector: little-endian.
const HEADER: usize = 16;

/// What a driver asks for. Descriptors and header have been read, once; the data have not.
#[derive(Debug)]
pub(super) struct BlockRequest<'m> {
    /// VIRTIO_BLK_T_*.
    pub(super) kind: u32,
    pub(super) sector: u64,
    /// What the driver gives, behind the header. No buffer is empty.
    pub(super) readable: Vec<VolatileSlice<'m>>,
    /// Where the device answers, before the status. No buffer is empty.
    pub(super) writable: Vec<VolatileSlice<'m>>,
    pub(super) status: Status<'m>,
}

/// The byte that says what became of a request.
#[derive(Debug)]
pub(super) struct Status<'m>(VolatileSlice<'m>);

/// A chain that is no request.
#[derive(Debug)]
pub(super) enum Invalid<'m> {
    /// The driver can be told.
    WithStatus(Status<'m>),
    /// There is no place to tell it.
    WithoutStatus,
}

impl<'m> BlockRequest<'m> {
    /// Reads a chain. How the header, the data and the status are
    /// dealt out to buffers is the driver's affair (2.7.4), as long as it comes in this order.
    pub(super) fn parse(chain: Chain, memory: &'m GuestMemory) -> Result<Self, Invalid<'m>> {
        let (mut readable, mut writable) = (Vec::new(), Vec::new());
        let (mut fine, mut complete) = (true, false);
        for descriptor in chain {
            // A chain that is broken or too long simply ends, before its last descriptor.
            complete = !descriptor.has_next();
            let slices = memory.get_slices(descriptor.addr(), descriptor.len() as usize);
            if !descriptor.is_write_only() {
                fine &= writable.is_empty() && append(&mut readable, slices);
            } else if !append(&mut writable, slices) {
                // The status is where it is only if what comes last is in memory.
                fine = false;
                writable.clear();
            }
        }
        if !complete {
            return Err(Invalid::WithoutStatus);
        }
        let status = Status(take_last(&mut writable).ok_or(Invalid::WithoutStatus)?);
        match take_header(&mut readable) {
            Some((kind, sector)) if fine => Ok(Self { kind, sector, readable, writable, status }),
            _ => Err(Invalid::WithStatus(status)),
        }
    }
}

impl Status<'_> {
    /// Tells the driver.
    pub(super) fn set(&self, status: u8) {
        self.0.copy_from(&[status]);
    }
}

/// The bytes in `buffers`.
pub(super) fn len(buffers: &[VolatileSlice]) -> u64 {
    buffers.iter().map(|buffer| buffer.len() as u64).sum()
}

/// Copies `bytes` to the front of `buffers`; false if there is no room, and then nothing is written.
pub(super) fn fill(buffers: &[VolatileSlice], mut bytes: &[u8]) -> bool {
    if len(buffers) < bytes.len() as u64 {
        return false;
    }
    for buffer in buffers {
        buffer.copy_from(bytes);
        bytes = bytes.get(buffer.len()..).unwrap_or_default();
    }
    true
}

/// Copies the front of `buffers`, which has to be there, to `bytes`.
pub(super) fn copy(buffers: &[VolatileSlice], bytes: &mut [u8]) {
    let mut rest = bytes;
    for buffer in buffers {
        let copied = buffer.copy_to(rest);
        rest = &mut rest[copied..];
    }
}

/// False if a part of it is not in memory.
fn append<'m, E>(
    buffers: &mut Vec<VolatileSlice<'m>>,
    slices: impl Iterator<Item = Result<VolatileSlice<'m>, E>>,
) -> bool {
    for slice in slices {
        let Ok(slice) = slice else { return false };
        buffers.push(slice);
    }
    true
}

fn take_header(buffers: &mut Vec<VolatileSlice>) -> Option<(u32, u64)> {
    let mut header = [0; HEADER];
    let mut filled = 0;
    let mut used = 0;
    while filled < HEADER {
        let buffer = buffers.get_mut(used)?;
        let count = buffer.copy_to(&mut header[filled..]);
        filled += count;
        match buffer.offset(count) {
            Ok(rest) if !rest.is_empty() => *buffer = rest,
            _ => used += 1,
        }
    }
    buffers.drain(..used);
    let [a, b, c, d, _, _, _, _, sector @ ..] = header;
    Some((u32::from_le_bytes([a, b, c, d]), u64::from_le_bytes(sector)))
}

fn take_last<'m>(buffers: &mut Vec<VolatileSlice<'m>>) -> Option<VolatileSlice<'m>> {
    let last = buffers.pop()?;
    let (rest, byte) = last.split_at(last.len().checked_sub(1)?).ok()?;
    if !rest.is_empty() {
        buffers.push(rest);
    }
    Some(byte)
}
