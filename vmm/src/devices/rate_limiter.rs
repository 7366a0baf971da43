// SPDX-License-Identifier: Apache-2.0
//! Limits of a device's traffic: token buckets, and a timer that wakes the device when it may go on.
//!
//! ```text
//! notify ──> consume ── true ──> request is done
//!               └ false: timer armed, request stays in the queue ── timer ──> host_event ──> consume
//! ```
//!
//! A device has its limiter's [`descriptor`](RateLimiter::descriptor) among those that the main
//! thread watches, and tries again at every host event; there is nothing to read from it.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

use secretvmm_api::{RateLimiter as Limits, TokenBucket};
use vmm_sys_util::timerfd::TimerFd;

/// How long a blocked device waits at least, if its buckets can save up that much: requests are
/// then done several at a time.
const PAUSE: Duration = Duration::from_millis(10);
/// The longest time for which the timer is armed; whoever is woken too early waits again.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
/// What arms a timer to fire at once: nothing at all would disarm it.
const AT_ONCE: Duration = Duration::from_nanos(1);

/// Limits of bytes and of operations, both of which hold. Without limits it costs nothing.
#[derive(Debug)]
pub struct RateLimiter {
    bandwidth: Option<Bucket>,
    ops: Option<Bucket>,
    timer: TimerFd,
    /// The timer is armed for this moment, and nothing goes before it.
    blocked_until: Option<Instant>,
}

impl RateLimiter {
    /// Full buckets of these sizes; no limit where there is none.
    ///
    /// # Errors
    /// The host gives no timer.
    pub fn new(limits: Option<&Limits>) -> io::Result<Self> {
        let mut limiter = Self { bandwidth: None, ops: None, timer: TimerFd::new()?, blocked_until: None };
        if let Some(limits) = limits {
            limiter.set(limits, Instant::now());
        }
        Ok(limiter)
    }

    /// Takes the tokens of one operation of so many bytes. If they are not all there it takes none,
    /// and the timer is armed for when they are.
    ///
    /// An operation larger than its bucket goes when the bucket is full, and those behind it wait
    /// for the difference as well.
    #[must_use]
    pub fn consume(&mut self, bytes: u64) -> bool {
        // No limit, no look at the clock.
        (self.bandwidth.is_none() && self.ops.is_none()) || self.consume_at(bytes, Instant::now())
    }

    /// Gives tokens back that were consumed for something that was not done after all.
    pub fn give_back(&mut self, ops: u64, bytes: u64) {
        for (bucket, tokens) in [(&mut self.ops, ops), (&mut self.bandwidth, bytes)] {
            if let Some(bucket) = bucket {
                bucket.give_back(tokens);
            }
        }
    }

    /// Has everything wait for so long.
    pub fn pause(&mut self, wait: Duration) {
        self.blocked_until = Instant::now().checked_add(wait);
        self.arm(wait);
    }

    /// Whether the last call of [`Self::consume`] said no, and it still would.
    pub fn is_blocked(&self) -> bool {
        self.blocked_until.is_some_and(|until| Instant::now() < until)
    }

    /// Other limits, with full buckets. A bucket of size 0 removes its limit; a missing one stays as
    /// it is. The device is woken to try again.
    pub fn update(&mut self, limits: &Limits) {
        self.set(limits, Instant::now());
        self.wake();
    }

    /// Has the main thread call the device at once.
    pub fn wake(&mut self) {
        // Whoever is still blocked has to be told again, because the timer is another one now.
        self.blocked_until = None;
        self.arm(AT_ONCE);
    }

    /// Readable when blocked operations may go on. To be watched edge-triggered.
    pub fn descriptor(&self) -> RawFd {
        self.timer.as_raw_fd()
    }

    fn set(&mut self, limits: &Limits, now: Instant) {
        for (bucket, new) in [(&mut self.bandwidth, limits.bandwidth), (&mut self.ops, limits.ops)] {
            if let Some(new) = new {
                *bucket = Bucket::new(new, now);
            }
        }
    }

    fn consume_at(&mut self, bytes: u64, now: Instant) -> bool {
        if self.blocked_until.is_some_and(|until| now < until) {
            return false;
        }
        self.blocked_until = None;
        let mut buckets = [(&mut self.ops, 1), (&mut self.bandwidth, bytes)];
        let needs = buckets.iter_mut().filter_map(|(bucket, tokens)| Some((bucket.as_mut()?, *tokens)));
        if let Some(wait) = needs.filter_map(|(bucket, tokens)| bucket.wait(tokens, now)).max() {
            self.blocked_until = now.checked_add(wait);
            self.arm(wait);
            return false;
        }
        for (bucket, tokens) in buckets {
            if let Some(bucket) = bucket {
                bucket.take(tokens);
            }
        }
        true
    }

    fn arm(&mut self, wait: Duration) {
        if let Err(err) = self.timer.reset(wait, None) {
            log::error!("A rate limiter's timer cannot be set: {err}");
        }
    }
}

/// The levels are tokens times `refill`, so that every nanosecond adds exactly `size`. All factors
/// are at most `i64::MAX`: no product and no sum of two overflows.
#[derive(Debug)]
struct Bucket {
    /// Tokens that it holds, not 0.
    size: i128,
    /// Nanoseconds in which it fills, not 0.
    refill: i128,
    /// Below 0 after an operation larger than the bucket.
    level: i128,
    /// Tokens, spent first and never refilled.
    burst: i128,
    burst_max: i128,
    /// The moment at which the level was as it says.
    seen: Instant,
}

impl Bucket {
    /// A full bucket, or none if there is no limit.
    fn new(bucket: TokenBucket, now: Instant) -> Option<Self> {
        let size = factor(bucket.size);
        let refill = factor(bucket.refill_time.saturating_mul(1_000_000));
        let burst = factor(bucket.one_time_burst.unwrap_or(0));
        (size != 0 && refill != 0).then_some(Self {
            size,
            refill,
            level: size * refill,
            burst,
            burst_max: burst,
            seen: now,
        })
    }

    /// How long to wait for so many tokens, or for a full bucket if it cannot hold them.
    fn wait(&mut self, tokens: u64, now: Instant) -> Option<Duration> {
        let passed = now.saturating_duration_since(self.seen).as_nanos().min(i64::MAX as u128) as i128;
        self.level = (self.level + passed * self.size).min(self.size * self.refill);
        self.seen = now;
        let needed = (factor(tokens) - self.burst).clamp(0, self.size) * self.refill;
        // Nothing needed is nothing to wait for, even in debt.
        let missing = if needed == 0 { 0 } else { needed - self.level };
        let nanos = |nanos: i128| Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        (missing > 0).then(|| {
            let saved_up = PAUSE.min(nanos(self.refill / 2));
            nanos((missing - 1) / self.size + 1).clamp(saved_up, LONGEST)
        })
    }

    fn take(&mut self, tokens: u64) {
        let from_burst = self.burst.min(factor(tokens));
        self.burst -= from_burst;
        self.level -= (factor(tokens) - from_burst) * self.refill;
    }

    fn give_back(&mut self, tokens: u64) {
        let full = self.size * self.refill;
        self.level += factor(tokens) * self.refill;
        let over = (self.level - full).max(0);
        self.level -= over;
        self.burst = (self.burst + over / self.refill).min(self.burst_max);
    }
}

fn factor(value: u64) -> i128 {
    value.min(i64::MAX as u64).into()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn bucket(size: u64, one_time_burst: u64, refill_time: u64) -> Option<TokenBucket> {
        Some(TokenBucket { size, one_time_burst: Some(one_time_burst), refill_time })
    }

    fn limiter(bandwidth: Option<TokenBucket>, ops: Option<TokenBucket>) -> (RateLimiter, Instant) {
        let limiter = RateLimiter::new(Some(&Limits { bandwidth, ops })).unwrap();
        (limiter, Instant::now())
    }

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// Waits up to ten seconds for the timer.
    fn fires(limiter: &mut RateLimiter) -> bool {
        let (sender, receiver) = std::sync::mpsc::channel();
        let mut timer = std::mem::replace(&mut limiter.timer, TimerFd::new().unwrap());
        std::thread::spawn(move || sender.send(timer.wait()));
        receiver.recv_timeout(Duration::from_secs(10)).is_ok()
    }

    #[test]
    fn consume_without_limits_is_free() {
        let (mut limiter, now) = limiter(None, bucket(0, 0, 100));
        assert!((0..1000).all(|_| limiter.consume(u64::MAX) && limiter.consume_at(u64::MAX, now)));
        let (mut limiter, _) = self::limiter(bucket(100, 5, 0), None);
        assert!((0..1000).all(|_| limiter.consume(u64::MAX)));
        assert!(RateLimiter::new(None).unwrap().consume(u64::MAX));
    }

    #[test]
    fn consume_takes_what_is_there_and_waits_for_the_rest() {
        let (mut limiter, now) = limiter(bucket(1000, 0, 1000), None);
        assert!(limiter.consume_at(600, now));
        assert!(!limiter.consume_at(600, now));
        assert_eq!(limiter.blocked_until, Some(now + ms(200)));
        // Blocked means blocked, also for what would fit.
        assert!(!limiter.consume_at(1, now + ms(199)));
        assert!(limiter.consume_at(600, now + ms(200)));
        assert!(!limiter.consume_at(1, now + ms(200)));
    }

    #[test]
    fn consume_of_both_kinds_takes_none_unless_both_are_there() {
        let (mut limiter, now) = limiter(bucket(1000, 0, 1000), bucket(1, 0, 500));
        assert!(limiter.consume_at(1, now));
        assert!(!limiter.consume_at(1, now));
        assert_eq!(limiter.blocked_until, Some(now + ms(500)));
        assert!(limiter.consume_at(1000, now + ms(500)), "the refused call took bytes");
        assert!(!limiter.consume_at(900, now + ms(1000)));
        assert_eq!(limiter.blocked_until, Some(now + ms(1400)));
    }

    #[test]
    fn burst_is_spent_first_and_once() {
        let (mut limiter, now) = limiter(None, bucket(2, 3, 1000));
        assert_eq!((0..10).filter(|_| limiter.consume_at(0, now)).count(), 5);
        let later = now + Duration::from_secs(1000);
        assert_eq!((0..10).filter(|_| limiter.consume_at(0, later)).count(), 2);
    }

    #[test]
    fn consume_of_more_than_the_bucket_leaves_a_debt() {
        let (mut limiter, now) = limiter(bucket(100, 0, 1000), None);
        assert!(limiter.consume_at(1, now));
        assert!(!limiter.consume_at(400, now));
        assert!(limiter.consume_at(400, now + ms(10)));
        assert!(limiter.consume_at(0, now + ms(10)), "an operation without bytes waits for bytes");
        assert!(!limiter.consume_at(100, now + ms(10)));
        assert_eq!(limiter.blocked_until, Some(now + ms(4010)));
    }

    #[test]
    fn wait_is_long_enough_for_several_but_never_wastes_tokens() {
        let (mut limiter, now) = limiter(None, bucket(1_000_000, 0, 1000));
        assert_eq!((0..2_000_000).take_while(|_| limiter.consume_at(0, now)).count(), 1_000_000);
        assert_eq!(limiter.blocked_until, Some(now + PAUSE));
        let (mut limiter, now) = self::limiter(None, bucket(2, 0, 4));
        assert_eq!((0..10).take_while(|_| limiter.consume_at(0, now)).count(), 2);
        assert_eq!(limiter.blocked_until, Some(now + ms(2)));
    }

    #[test]
    fn rate_over_a_long_time_is_exact() {
        let (mut limiter, start) = limiter(bucket(7, 0, 3), None);
        let mut consumed = 0;
        let mut now = start;
        while now < start + ms(3000) {
            while limiter.consume_at(1, now) {
                consumed += 1;
            }
            now = limiter.blocked_until.unwrap();
        }
        assert!((7000 - 7..=7000 + 7).contains(&consumed), "{consumed}");
    }

    #[test]
    fn given_back_tokens_are_there_again_and_no_more() {
        let (mut limiter, now) = limiter(bucket(10, 5, 1000), bucket(1, 0, 1000));
        assert!(limiter.consume_at(12, now));
        limiter.give_back(1, 12);
        limiter.give_back(7, 1000);
        assert!(limiter.consume_at(15, now));
        assert!(!limiter.consume_at(0, now));
    }

    #[test]
    fn extremes_do_not_overflow() {
        let max = bucket(u64::MAX, u64::MAX, u64::MAX);
        let (mut limiter, now) = limiter(max, bucket(1, 0, u64::MAX));
        assert!(limiter.consume_at(u64::MAX, now));
        assert!(!limiter.consume_at(u64::MAX, now));
        assert_eq!(limiter.blocked_until, Some(now + LONGEST));
        limiter.give_back(u64::MAX, u64::MAX);
        limiter.give_back(u64::MAX, u64::MAX);
        assert!(limiter.consume_at(u64::MAX, now + LONGEST));
        let (mut limiter, now) = self::limiter(bucket(u64::MAX, 0, u64::MAX), None);
        assert!(limiter.consume_at(u64::MAX, now));
        assert!(!limiter.consume_at(u64::MAX, now));
        assert!(!limiter.consume_at(u64::MAX, now + LONGEST * 365));
    }

    #[test]
    fn timer_fires_when_tokens_are_there() {
        let (mut limiter, _) = limiter(None, bucket(1, 0, 20));
        assert!(limiter.consume(0));
        assert!(!limiter.consume(0));
        assert!(limiter.is_blocked());
        assert!(fires(&mut limiter));
        assert!(!limiter.is_blocked());
        assert!(limiter.consume(0));
    }

    #[test]
    fn update_replaces_one_bucket_and_wakes() {
        let (mut limiter, _) = limiter(bucket(1, 0, 3_600_000), bucket(1, 0, 3_600_000));
        assert!(limiter.consume(1));
        limiter.update(&Limits { bandwidth: None, ops: bucket(0, 0, 0) });
        assert!(fires(&mut limiter));
        assert!(!limiter.consume(1), "the missing bucket was replaced");
        limiter.update(&Limits { bandwidth: bucket(2, 0, 3_600_000), ops: None });
        assert!(limiter.consume(2));
        assert!(!limiter.consume(1));
    }
}
