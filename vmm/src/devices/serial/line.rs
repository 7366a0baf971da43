// SPDX-License-Identifier: Apache-2.0
//! Where the guest's output goes.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::devices::RateLimiter;
use crate::lines;
use crate::metrics::METRICS;

/// How long the guest waits for a reader that is slow, before its output is lost. It does so once: as long as there
/// is no room it waits no more.
const PATIENCE: Duration = Duration::from_millis(20);

/// Takes bytes, or drops and counts them.
pub(super) struct Line {
    out: File,
    limit: Option<RateLimiter>,
    /// The last bytes were lost.
    dropping: bool,
    /// A line of the log has said so, and no other will.
    reported: bool,
}

impl Line {
    pub(super) fn new(out: File) -> Self {
        Self { out, limit: None, dropping: false, reported: false }
    }

    pub(super) fn limit(&mut self, limit: RateLimiter) {
        self.limit = Some(limit);
    }

    /// Writes `bytes`, without waiting for longer than [`PATIENCE`].
    pub(super) fn send(&mut self, bytes: &[u8]) {
        if self.limit.as_mut().is_some_and(|limit| !limit.consume(bytes.len() as u64)) {
            return METRICS.uart.rate_limiter_dropped_bytes.add(bytes.len() as u64);
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            match lines::write_without_waiting(self.out.as_fd(), rest) {
                Ok(count @ 1..) => {
                    rest = rest.get(count..).unwrap_or_default();
                    self.dropping = false;
                }
                // The kick that stops a vCPU thread lands here, too.
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) if !self.dropping && self.has_room_soon() => {}
                Ok(_) => return self.drop_rest(rest, Errno::AGAIN),
                Err(err) => return self.drop_rest(rest, err),
            }
        }
    }

    fn has_room_soon(&self) -> bool {
        let patience = Timespec { tv_sec: 0, tv_nsec: PATIENCE.subsec_nanos().into() };
        let mut events = [PollFd::from_borrowed_fd(self.out.as_fd(), PollFlags::OUT)];
        poll(&mut events, Some(&patience)).is_ok_and(|ready| ready > 0)
    }

    fn drop_rest(&mut self, rest: &[u8], err: Errno) {
        METRICS.uart.missed_write_count.add(rest.len() as u64);
        self.dropping = true;
        if !std::mem::replace(&mut self.reported, true) {
            let err = io::Error::from(err);
            log::warn!("Guest output is lost as long as nobody takes it, now and later without a word here: {err}");
        }
    }
}
