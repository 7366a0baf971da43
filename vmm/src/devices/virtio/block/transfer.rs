//! Bytes between a file and guest memory, with no copy in between.
#![allow(unsafe_code)] // preadv(2) and pwritev(2) on guest memory, which is no &mut [u8].

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use libc::{c_int, iovec, off_t};
use vm_memory::VolatileSlice;

/// Buffers that one system call gets: as many as have room on the stack.
const BATCH: usize = 64;

/// A transfer that ended too early.
#[derive(Debug)]
pub(super) struct Short {
    /// Bytes from the first on that were transferred.
    pub(super) done: u64,
    /// What stopped it.
    pub(super) error: io::Error,
}

/// Fills `buffers`, none of them empty, from the file at `offset`.
pub(super) fn read(file: &File, offset: u64, buffers: &[VolatileSlice]) -> Result<u64, Short> {
    transfer(offset, buffers, io::ErrorKind::UnexpectedEof, |iovecs, count, offset| {
        // SAFETY: the descriptor is open; the first `count` iovecs are guest memory (see transfer),
        // which has no Rust references and may change at any time.
        unsafe { libc::preadv(file.as_raw_fd(), iovecs, count, offset) }
    })
}

/// Writes `buffers`, none of them empty, to the file at `offset`.
pub(super) fn write(file: &File, offset: u64, buffers: &[VolatileSlice]) -> Result<u64, Short> {
    transfer(offset, buffers, io::ErrorKind::WriteZero, |iovecs, count, offset| {
        // SAFETY: as in read.
        unsafe { libc::pwritev(file.as_raw_fd(), iovecs, count, offset) }
    })
}

/// Repeats `call` until all of `buffers` is done. The iovecs that it gets lie inside `buffers`, whose
/// memory stays mapped for as long as they are borrowed.
fn transfer(
    offset: u64,
    buffers: &[VolatileSlice],
    nothing: io::ErrorKind,
    call: impl Fn(*const iovec, c_int, off_t) -> isize,
) -> Result<u64, Short> {
    let mut done = 0;
    // What is left: buffers[next..], without the first `skip` bytes.
    let (mut next, mut skip) = (0, 0);
    while let Some(left @ [_, ..]) = buffers.get(next..) {
        let mut iovecs = [iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; BATCH];
        let mut skipped = skip;
        for (iovec, buffer) in iovecs.iter_mut().zip(left) {
            // skip < the first buffer's length, so this stays inside.
            iovec.iov_base = buffer.ptr_guard_mut().as_ptr().wrapping_add(skipped).cast();
            iovec.iov_len = buffer.len() - skipped;
            skipped = 0;
        }
        let place = offset.checked_add(done).and_then(|place| off_t::try_from(place).ok());
        let Some(place) = place else { return Err(Short { done, error: io::ErrorKind::InvalidInput.into() }) };
        let count = match call(iovecs.as_ptr(), left.len().min(BATCH) as c_int, place) {
            0 => return Err(Short { done, error: nothing.into() }),
            count if count > 0 => count as usize,
            _ => match io::Error::last_os_error() {
                err if err.kind() == io::ErrorKind::Interrupted => continue,
                error => return Err(Short { done, error }),
            },
        };
        done += count as u64;
        skip += count;
        while let Some(buffer) = buffers.get(next).filter(|buffer| skip >= buffer.len()) {
            skip -= buffer.len();
            next += 1;
        }
    }
    Ok(done)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn transfer_goes_on_where_a_short_or_interrupted_call_has_stopped() {
        let mut memory: Vec<Vec<u8>> = (0..100).map(|at| vec![at; usize::from(at) % 7 + 1]).collect();
        let expected = memory.concat();
        let buffers: Vec<_> = memory.iter_mut().map(|bytes| VolatileSlice::from(bytes.as_mut_slice())).collect();
        let written = std::cell::RefCell::new(Vec::<u8>::new());
        let calls = std::cell::Cell::new(0);
        let result = transfer(1000, &buffers, io::ErrorKind::WriteZero, |iovecs, count, offset| {
            calls.set(calls.get() + 1);
            if calls.get() % 3 == 0 {
                // SAFETY: errno is this thread's own.
                unsafe { *libc::__errno_location() = libc::EINTR };
                return -1;
            }
            let mut written = written.borrow_mut();
            assert_eq!(offset, 1000 + written.len() as i64);
            let mut bytes = Vec::new();
            // SAFETY: transfer gives `count` iovecs.
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
    fn transfer_at_no_offset_or_of_nothing_makes_no_call() {
        let mut memory = [0; 8];
        let buffers = [VolatileSlice::from(&mut memory[..])];
        let never = |_, _, _| unreachable!();
        assert_eq!(transfer(0, &[], io::ErrorKind::Other, never).unwrap(), 0);
        let error = transfer(u64::MAX, &buffers, io::ErrorKind::Other, never).unwrap_err();
        assert_eq!((error.done, error.error.kind()), (0, io::ErrorKind::InvalidInput));
    }
}
