// SPDX-License-Identifier: Apache-2.0
//! A ring of io_uring in another process (include/uapi/linux/io_uring.h): set up and entered by its system calls, and
//! filled from here through the ring's descriptor.

use std::sync::atomic::{Ordering, fence};

use anyhow::{Result, ensure};
use nix::errno::Errno;

use crate::area::Area;
use crate::tracee::Tracee;

const IORING_OFF_SQES: u64 = 0x1000_0000;
const IORING_ENTER_GETEVENTS: u64 = 1;
const IORING_REGISTER_BUFFERS: u64 = 0;
const IORING_FEAT_SINGLE_MMAP: u32 = 1;
/// Bytes that hold both queues of a ring with two entries.
const RING: usize = 4096;
/// Words of `struct io_uring_params`.
const PARAMS: usize = 15;

/// A ring with room for one request at a time.
pub(super) struct Ring {
    descriptor: u64,
    queues: Area,
    requests: Area,
    params: [u8; 8 * PARAMS],
}

impl Ring {
    /// Makes a ring in the process.
    pub(super) fn new(tracee: &mut Tracee) -> Result<Self> {
        let at = tracee.put_words(&[0; PARAMS])?;
        let descriptor = tracee.must(libc::SYS_io_uring_setup, &[2, at])?;
        let params = tracee.get(at)?;
        let file = tracee.take(descriptor)?;
        let queues = Area::of_file_at(&file, 0, RING)?;
        let requests = Area::of_file_at(&file, IORING_OFF_SQES, RING)?;
        let ring = Ring { descriptor, queues, requests, params };
        ensure!(ring.word(20) & IORING_FEAT_SINGLE_MMAP != 0, "A kernel from before 5.4");
        Ok(ring)
    }

    /// Registers memory of the process as its only fixed buffer.
    pub(super) fn register(&self, tracee: &mut Tracee, address: u64, length: u64) -> Result<Result<(), Errno>> {
        let range = tracee.put_words(&[address, length])?;
        let answer = tracee.call(libc::SYS_io_uring_register, &[self.descriptor, IORING_REGISTER_BUFFERS, range, 1])?;
        Ok(answer.map(drop))
    }

    /// Lets the process write `length` bytes at an address to a pipe of its own, with one request.
    pub(super) fn write(
        &self,
        tracee: &mut Tracee,
        opcode: u8,
        pipe: u64,
        address: u64,
        length: u32,
    ) -> Result<Result<(), Errno>> {
        let mut request = [0; 64];
        request[0] = opcode;
        request[4..8].copy_from_slice(&u32::try_from(pipe)?.to_le_bytes());
        // Offset: where the pipe is.
        request[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
        request[16..24].copy_from_slice(&address.to_le_bytes());
        request[24..28].copy_from_slice(&length.to_le_bytes());
        self.requests.put(0, &request);
        let (tail, array) = (self.word(44) as usize, self.word(64) as usize);
        self.queues.put(array, &0u32.to_le_bytes());
        fence(Ordering::SeqCst);
        self.queues.put(tail, &1u32.to_le_bytes());
        tracee.must(libc::SYS_io_uring_enter, &[self.descriptor, 1, 1, IORING_ENTER_GETEVENTS, 0, 0])?;
        let mut result = [0; 4];
        // The first completion; its result follows eight bytes of the request's own.
        self.queues.get(self.word(100) as usize + 8, &mut result);
        let result = i32::from_le_bytes(result);
        Ok(if result < 0 { Err(Errno::from_raw(-result)) } else { Ok(()) })
    }

    /// Closes it in the process.
    pub(super) fn close(self, tracee: &mut Tracee) -> Result<()> {
        tracee.close(self.descriptor)
    }

    /// A word of the parameters that the kernel filled in.
    fn word(&self, offset: usize) -> u32 {
        self.params[offset..].iter().take(4).rev().fold(0, |word, &byte| word << 8 | u32::from(byte))
    }
}
