// SPDX-License-Identifier: Apache-2.0
//! What a unix socket has not taken yet.

use std::io::{self, ErrorKind, Write};
use std::os::unix::net::UnixStream;

use vm_memory::VolatileSlice;
use zeroize::Zeroizing;

/// A ring of guest data on its way to the host. It has memory only while it holds something, and
/// gives it back wiped.
pub(super) struct Backlog {
    size: usize,
    /// Empty or of `size` bytes: it never grows, which would leave copies behind.
    bytes: Zeroizing<Vec<u8>>,
    start: usize,
    len: usize,
}

impl Backlog {
    /// An empty one that takes `size` bytes.
    pub(super) fn new(size: usize) -> Self {
        Self { size, bytes: Zeroizing::default(), start: 0, len: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends `slice`, for which the caller knows that there is room.
    pub(super) fn push(&mut self, slice: &VolatileSlice) {
        if self.bytes.is_empty() {
            self.bytes = Zeroizing::new(vec![0; self.size]);
        }
        debug_assert!(slice.len() <= self.size - self.len);
        let end = (self.start + self.len) % self.size;
        let first = slice.copy_to(&mut self.bytes[end..]);
        let second = slice.offset(first).map_or(0, |rest| rest.copy_to(&mut self.bytes[..self.start]));
        self.len += first + second;
    }

    /// Writes until the socket takes no more; the number of bytes that went.
    ///
    /// # Errors
    /// The socket is broken. (One that is full is not.)
    pub(super) fn flush(&mut self, mut socket: &UnixStream) -> io::Result<usize> {
        let before = self.len;
        while self.len > 0 {
            let end = self.size.min(self.start + self.len);
            match socket.write(&self.bytes[self.start..end]) {
                Ok(count) => {
                    self.start = (self.start + count) % self.size;
                    self.len -= count;
                }
                Err(err) if err.kind() == ErrorKind::WouldBlock => break,
                Err(err) if err.kind() == ErrorKind::Interrupted => {}
                Err(err) => return Err(err),
            }
        }
        let flushed = before - self.len;
        if self.len == 0 {
            self.clear();
        }
        Ok(flushed)
    }

    /// Forgets everything; the number of bytes that were there.
    pub(super) fn clear(&mut self) -> usize {
        std::mem::replace(self, Self::new(self.size)).len
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Read;

    use super::*;

    const SIZE: usize = 64 << 10;

    #[test]
    fn bytes_leave_in_order_across_the_end_of_the_ring() {
        let (near, mut far) = UnixStream::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        far.set_nonblocking(true).unwrap();
        // The socket is full, but for a little.
        while (&near).write(&[0; 1000]).is_ok() {}
        let mut next = 0_u32;
        let mut backlog = Backlog::new(SIZE);
        let mut got = Vec::new();
        let mut taken = 0;
        while taken < 300_000 {
            let mut piece: Vec<u8> = (0..997).map(|at| ((next + at) % 251) as u8).collect();
            if backlog.len + piece.len() <= SIZE {
                backlog.push(&VolatileSlice::from(&mut piece[..]));
                next += 997;
                continue;
            }
            let mut chunk = [0; 5000];
            let count = far.read(&mut chunk).unwrap();
            got.extend_from_slice(&chunk[..count]);
            taken += backlog.flush(&near).unwrap();
        }
        let mut chunk = [0; 5000];
        while let Ok(count @ 1..) = far.read(&mut chunk) {
            got.extend_from_slice(&chunk[..count]);
            backlog.flush(&near).unwrap();
        }
        let data = &got[got.len() - next as usize..];
        assert!(data.iter().enumerate().all(|(at, byte)| usize::from(*byte) == at % 251));
        assert!(backlog.is_empty() && backlog.bytes.is_empty());
    }
}
