//! How long a device keeps the thread that serves it.

use std::time::{Duration, Instant};

/// A thread that serves a queue until it is empty may never be done: another vCPU, or a request that
/// writes to the rings, can fill it as fast as it empties. So a device serves it for a turn, then has
/// the main thread call it again ([`RateLimiter::wake`]), and a vCPU is free to be paused meanwhile.
///
/// [`RateLimiter::wake`]: super::RateLimiter::wake
#[derive(Debug)]
pub struct Turn {
    length: Duration,
    begun: bool,
    end: Option<Instant>,
}

impl Turn {
    /// What a guest's user does not notice, and a pause can wait for.
    pub const LENGTH: Duration = Duration::from_millis(20);

    /// A turn that begins with the first request.
    pub fn new(length: Duration) -> Self {
        Self { length, begun: false, end: None }
    }

    /// Asked before each request. A first one always has its turn, and costs no look at the clock.
    pub fn is_over(&mut self) -> bool {
        if !std::mem::replace(&mut self.begun, true) {
            return false;
        }
        let now = Instant::now();
        now >= *self.end.get_or_insert(now + self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turn_has_at_least_one_request_and_ends() {
        let mut turn = Turn::new(Duration::ZERO);
        assert!(!turn.is_over());
        assert!(turn.is_over());
        let mut turn = Turn::new(Duration::from_secs(3600));
        assert!((0..100).all(|_| !turn.is_over()));
    }
}
