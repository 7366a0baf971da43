// SPDX-License-Identifier: Apache-2.0
//! How long a device keeps the thread that serves it.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// What a guest's user does not notice, and a pause can wait for.
const LENGTH: Duration = Duration::from_millis(20);

/// The turns of one device.
///
/// A thread that serves a queue until it is empty may never be done: another vCPU, or a request that
/// writes to the rings, can fill it as fast as it empties. So a device serves it for a turn. When that is
/// over the main thread calls the device again, and a vCPU is free to be paused meanwhile.
#[derive(Debug)]
pub struct Turns {
    length: Duration,
    again: Arc<EventFd>,
}

/// One turn, which begins with the first request.
#[derive(Debug)]
pub struct Turn {
    length: Duration,
    begun: bool,
    end: Option<Instant>,
    again: Arc<EventFd>,
}

impl Turns {
    /// Turns of 20 ms.
    ///
    /// # Errors
    /// The host gives no event descriptor.
    pub fn new() -> io::Result<Self> {
        Ok(Self { length: LENGTH, again: Arc::new(EventFd::new(EFD_NONBLOCK)?) })
    }

    /// The next turn.
    pub fn begin(&self) -> Turn {
        Turn { length: self.length, begun: false, end: None, again: self.again.clone() }
    }

    /// Readable when the device is to be called again. To be watched edge-triggered; nobody reads it.
    pub fn descriptor(&self) -> RawFd {
        self.again.as_raw_fd()
    }

    #[cfg(test)]
    pub(crate) fn set_length(&mut self, length: Duration) {
        self.length = length;
    }
}

impl Turn {
    /// Asked before each request. A first one always has its turn, and costs no look at the clock. When it
    /// says yes, the main thread calls the device again.
    pub fn is_over(&mut self) -> bool {
        if !std::mem::replace(&mut self.begun, true) {
            return false;
        }
        let now = Instant::now();
        let over = now >= *self.end.get_or_insert(now + self.length);
        if over {
            // A counter that is full has an edge pending already.
            let _ = self.again.write(1);
        }
        over
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn turn_has_at_least_one_request_and_its_end_calls_again() {
        let mut turns = Turns::new().unwrap();
        turns.set_length(Duration::ZERO);
        let mut turn = turns.begin();
        assert!(!turn.is_over());
        assert!(turns.again.read().is_err());
        assert!(turn.is_over());
        assert_eq!(turns.again.read().unwrap(), 1);
        turns.set_length(Duration::from_secs(3600));
        let mut turn = turns.begin();
        assert!((0..100).all(|_| !turn.is_over()));
        assert!(turns.again.read().is_err());
    }
}
