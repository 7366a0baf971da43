// SPDX-License-Identifier: Apache-2.0
//! DISCARD and WRITE_ZEROES (5.2.6.2): parts of the disk that need no data to be what they shall be.

use std::io;

use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES, VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP,
};
use vmm_sys_util::fallocate::{FallocateMode, fallocate};

use super::disk::{Disk, SECTOR_SHIFT};
use super::request::{self, BlockRequest};

/// The most sectors of one request: 1 GiB, which a file system gives back or marks as zero at once.
pub(super) const SECTORS_MAX: u32 = 1 << (30 - SECTOR_SHIFT);
/// Ranges of one request.
pub(super) const RANGES_MAX: u32 = 1;
/// Where a range may begin, in sectors.
pub(super) const ALIGNMENT: u32 = 8;
/// sector, number of sectors, flags: little-endian.
const RANGE: usize = 16;

/// Why there is nothing that could be erased.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// The driver should know better.
    Invalid,
    /// A flag that is not for this request.
    Unsupported,
}

/// Part of a disk that loses its contents.
#[derive(Debug)]
pub(super) struct Erase {
    offset: u64,
    len: u64,
    /// The range becomes a hole, instead of zeros that have their place on the host's disk.
    hole: bool,
}

impl Erase {
    /// What a request asks for.
    pub(super) fn parse(request: &BlockRequest, disk: &Disk) -> Result<Self, Refused> {
        if disk.read_only || !request.writable.is_empty() || request::len(&request.readable) != RANGE as u64 {
            return Err(Refused::Invalid);
        }
        let mut range = [0; RANGE];
        request::copy(&request.readable, &mut range);
        let [sector @ .., a, b, c, d, e, f, g, h] = range;
        let (count, flags) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]));
        let hole = match (request.kind, flags) {
            (VIRTIO_BLK_T_DISCARD, 0) | (VIRTIO_BLK_T_WRITE_ZEROES, VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP) => true,
            (VIRTIO_BLK_T_WRITE_ZEROES, 0) => false,
            _ => return Err(Refused::Unsupported),
        };
        let len = u64::from(count) << SECTOR_SHIFT;
        let offset = disk.offset(u64::from_le_bytes(sector), len).filter(|_| (1..=SECTORS_MAX).contains(&count));
        Ok(Self { offset: offset.ok_or(Refused::Invalid)?, len, hole })
    }

    /// Bytes of the range, which the drive's limits count as written: to zero them can cost the host as much.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Does it; the range reads as zeros then.
    ///
    /// # Errors
    /// EOPNOTSUPP where the host's file system cannot; nothing has changed.
    pub(super) fn run(self, disk: &Disk) -> io::Result<()> {
        loop {
            let mode = if self.hole { FallocateMode::PunchHole } else { FallocateMode::ZeroRange };
            match fallocate(&disk.file, mode, true, self.offset, self.len).map_err(io::Error::from) {
                // The kick that pauses a vCPU; file systems over a network heed it.
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }
}
