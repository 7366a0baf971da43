//! What a drive counts, under Firecracker's names.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

/// Totals since the device was opened. Read at any time, by any thread.
#[derive(Debug, Default, Serialize)]
#[non_exhaustive]
pub struct BlockMetrics {
    /// Times that the device could not be activated.
    pub activate_fails: AtomicU64,
    /// Broken rings.
    pub event_fails: AtomicU64,
    /// Requests that the host's file failed.
    pub execute_fails: AtomicU64,
    /// Requests that no driver should make.
    pub invalid_reqs_count: AtomicU64,
    /// Flushes that were done.
    pub flush_count: AtomicU64,
    /// Notifications by the driver.
    pub queue_event_count: AtomicU64,
    /// Times that the main thread called the device: the limiter has tokens again, a turn was over, or
    /// the VM went on after a pause.
    pub rate_limiter_event_count: AtomicU64,
    /// Times that a request had to wait for the limiter.
    pub rate_limiter_throttled_events: AtomicU64,
    /// Changes of file or limits.
    pub update_count: AtomicU64,
    /// Changes that were refused.
    pub update_fails: AtomicU64,
    /// Bytes that the guest has read.
    pub read_bytes: AtomicU64,
    /// Bytes that the guest has written.
    pub write_bytes: AtomicU64,
    /// Reads that were done.
    pub read_count: AtomicU64,
    /// Writes that were done.
    pub write_count: AtomicU64,
}

/// Counts one.
pub(super) fn count(counter: &AtomicU64) {
    add(counter, 1);
}

/// Counts `amount`.
pub(super) fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}
