// SPDX-License-Identifier: Apache-2.0
//! What a drive counts, under Firecracker's names.

use serde::Serialize;

use crate::metrics::Counter;

/// Counters of one device.
#[derive(Debug, Default, Serialize)]
pub struct Metrics {
    /// Times that the device could not be activated.
    pub activate_fails: Counter,
    /// Broken rings.
    pub event_fails: Counter,
    /// Requests that the host's file failed.
    pub execute_fails: Counter,
    /// Requests that no driver should make.
    pub invalid_reqs_count: Counter,
    /// Flushes that were done.
    pub flush_count: Counter,
    /// Notifications by the driver.
    pub queue_event_count: Counter,
    /// Times that the main thread called the device: the limiter has tokens again, a turn was over, or
    /// the VM went on after a pause.
    pub rate_limiter_event_count: Counter,
    /// Times that a request had to wait for the limiter.
    pub rate_limiter_throttled_events: Counter,
    /// Changes of file or limits.
    pub update_count: Counter,
    /// Changes that were refused.
    pub update_fails: Counter,
    /// Bytes that the guest has read.
    pub read_bytes: Counter,
    /// Bytes that the guest has written.
    pub write_bytes: Counter,
    /// Reads that were done.
    pub read_count: Counter,
    /// Writes that were done.
    pub write_count: Counter,
}
