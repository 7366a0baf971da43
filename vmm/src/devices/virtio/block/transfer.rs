// SPDX-License-Identifier: Apache-2.0
//! Bytes between a file and guest memory, with no copy in between.
#![allow(unsafe_code)] // preadv(2) and pwritev(2) on guest memory, which is no &mut [u8].

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use libc::{c_int, iovec, off_t};
use vm_memory::VolatileSlice;

/// Buffers that one system call gets: as many as have room on the stack.
const BATCH: usize = 64;
/// Bytes that one system call moves: more than a driver puts into a request that it wants back soon, and
/// no reason to wait for a request of gigabytes.
pub(super) const PIECE: u64 = 1 << 20;

/// A transfer that ended too early.
#[derive(Debug)]
pub(super) struct Short {
    /// Bytes from the first one of the request on that were transferred.
    pub(super) done: u64,
    /// What stopped it.
    pub(super) error: io::Error,
}

/// Fills `buffers`, none of them empty, from the file at `offset`. The first `done` bytes are done already;
/// how many are then.
pub(super) fn read(file: &File, offset: u64, buffers: &[VolatileSlice], done: u64) -> Result<u64, Short> {
    piece(offset, buffers, done, io::ErrorKind::UnexpectedEof, |iovecs, count, offset| {
        // SAFETY: the descriptor is open; the first `count` iovecs are guest memory (see transfer),
        // which has no Rust references and may change at any time.
        unsafe { libc::preadv(file.as_raw_fd(), iovecs, count, offset) }
    })
}

/// Writes `buffers`, none of them empty, to the file at `offset`, as [`read`] reads.
pub(super) fn write(file: &File, offset: u64, buffers: &[VolatileSlice], done: u64) -> Result<u64, Short> {
    piece(offset, buffers, done, io::ErrorKind::WriteZero, |iovecs, count, offset| {
        // SAFETY: as in read.
        unsafe { libc::pwritev(file.as_raw_fd(), iovecs, count, offset) }
    })
}

/// Moves the next piece by `call`, whose iovecs lie inside `buffers`: memory that stays mapped for as
/// long as they are borrowed.
fn piece(
    offset: u64,
    buffers: &[VolatileSlice],
    done: u64,
    nothing: io::ErrorKind,
    call: impl Fn(*const iovec, c_int, off_t) -> isize,
) -> Result<u64, Short> {
    let short = |error: io::Error| Short { done, error };
    let mut iovecs = [iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; BATCH];
    let count = fill(&mut iovecs, buffers, done);
    if count == 0 {
        return Ok(done);
    }
    let place = offset.checked_add(done).and_then(|place| off_t::try_from(place).ok());
    let place = place.ok_or_else(|| short(io::ErrorKind::InvalidInput.into()))?;
    loop {
        match call(iovecs.as_ptr(), count as c_int, place) {
            0 => return Err(short(nothing.into())),
            moved if moved > 0 => return Ok(done + moved as u64),
            _ => match io::Error::last_os_error() {
                err if err.kind() == io::ErrorKind::Interrupted => {}
                error => return Err(short(error)),
            },
        }
    }
}

/// Puts the next [`PIECE`] of `buffers` behind the first `done` bytes into iovecs, as far as there are
/// enough of them; how many it takes.
fn fill(iovecs: &mut [iovec; BATCH], buffers: &[VolatileSlice], done: u64) -> usize {
    let (mut skip, mut room, mut count) = (done, PIECE, 0);
    for buffer in buffers {
        let len = buffer.len() as u64;
        let skipped = skip.min(len);
        skip -= skipped;
        let part = (len - skipped).min(room);
        let Some(iovec) = iovecs.get_mut(count).filter(|_| room > 0) else { break };
        if part == 0 {
            continue;
        }
        // skipped < the buffer's length, so this stays inside; both fit, as the length is a usize.
        iovec.iov_base = buffer.ptr_guard_mut().as_ptr().wrapping_add(skipped as usize).cast();
        iovec.iov_len = part as usize;
        (room, count) = (room - part, count + 1);
    }
    count
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Moves everything, piece by piece.
    fn all(
        offset: u64,
        buffers: &[VolatileSlice],
        call: impl Fn(*const iovec, c_int, off_t) -> isize,
    ) -> Result<u64, Short> {
        let total: u64 = buffers.iter().map(|buffer| buffer.len() as u64).sum();
        let mut done = 0;
        while done < total {
            done = piece(offset, buffers, done, io::ErrorKind::WriteZero, &call)?;
        }
        Ok(done)
    }

    #[test]
    fn piece_goes_on_where_a_short_or_interrupted_call_has_stopped() {
        let mut memory: Vec<Vec<u8>> = (0..100).map(|at| vec![at; usize::from(at) % 7 + 1]).collect();
        let expected = memory.concat();
        let buffers: Vec<_> = memory.iter_mut().map(|bytes| VolatileSlice::from(bytes.as_mut_slice())).collect();
        let written = std::cell::RefCell::new(Vec::<u8>::new());
        let calls = std::cell::Cell::new(0);
        let result = all(1000, &buffers, |iovecs, count, offset| {
            calls.set(calls.get() + 1);
            if calls.get() % 3 == 0 {
                // SAFETY: errno is this thread's own.
                unsafe { *libc::__errno_location() = libc::EINTR };
                return -1;
            }
            let mut written = written.borrow_mut();
            assert_eq!(offset, 1000 + written.len() as i64);
            let mut bytes = Vec::new();
            // SAFETY: piece gives `count` iovecs.
            for iovec in unsafe { std::slice::from_raw_parts(iovecs, count as usize) } {
                // SAFETY: they lie in `memory`, which nobody writes to.
                bytes.extend_from_slice(unsafe { std::slice::from_raw_parts(iovec.iov_base.cast(), iovec.iov_len) });
            }
            bytes.truncate(11);
            written.extend_from_slice(&bytes);
            bytes.len() as isize
        });
        assert_eq!(result.unwrap(), expected.len() as u64);
        assert_eq!(written.into_inner(), expected);
    }

    #[test]
    fn piece_of_a_large_request_is_bounded() {
        let mut memory = vec![0; 3 * PIECE as usize];
        let half = PIECE as usize / 2;
        let (first, second) = memory.split_at_mut(half);
        let buffers = [VolatileSlice::from(first), VolatileSlice::from(second)];
        let calls = std::cell::RefCell::new(Vec::new());
        let result = all(0, &buffers, |iovecs, count, _| {
            // SAFETY: piece gives `count` iovecs.
            let iovecs = unsafe { std::slice::from_raw_parts(iovecs, count as usize) };
            let len = iovecs.iter().map(|iovec| iovec.iov_len).sum::<usize>();
            calls.borrow_mut().push((count, len));
            len as isize
        });
        assert_eq!(result.unwrap(), 3 * PIECE);
        assert_eq!(calls.into_inner(), [(2, 2 * half), (1, 2 * half), (1, 2 * half)]);
    }

    #[test]
    fn piece_at_no_offset_or_of_nothing_makes_no_call() {
        let mut memory = [0; 8];
        let buffers = [VolatileSlice::from(&mut memory[..])];
        let never = |_, _, _| unreachable!();
        assert_eq!(piece(0, &[], 0, io::ErrorKind::Other, never).unwrap(), 0);
        let error = piece(u64::MAX, &buffers, 0, io::ErrorKind::Other, never).unwrap_err();
        assert_eq!((error.done, error.error.kind()), (0, io::ErrorKind::InvalidInput));
    }

    /// All ways to cut a few bytes into a few buffers, and all places to go on from.
    #[test]
    fn fill_gives_what_is_left_in_order_and_nothing_else() {
        let mut memory = [0_u8; 6];
        let base = memory.as_mut_ptr();
        let all = VolatileSlice::from(&mut memory[..]);
        for lens in (1..=3_usize).flat_map(|a| (1..=3).flat_map(move |b| (0..=3).map(move |c| [a, b, c]))) {
            let lens: Vec<_> = lens.into_iter().filter(|len| *len > 0).collect();
            let total: usize = lens.iter().sum();
            if total > all.len() {
                continue;
            }
            let mut at = 0;
            let buffers: Vec<_> = lens
                .iter()
                .map(|len| {
                    at += len;
                    all.subslice(at - len, *len).unwrap()
                })
                .collect();
            for done in 0..=total + 1 {
                let mut iovecs = [iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; BATCH];
                let count = fill(&mut iovecs, &buffers, done as u64);
                let mut next = done;
                for iovec in &iovecs[..count] {
                    assert_eq!((iovec.iov_base.cast(), iovec.iov_len > 0), (base.wrapping_add(next), true));
                    next += iovec.iov_len;
                }
                assert_eq!(next, done.max(total), "{lens:?} from {done}");
            }
        }
    }
}
