//! What a network device counts, under Firecracker's names.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

/// Counters since the device was opened.
#[derive(Debug, Default, Serialize)]
pub struct Metrics {
    /// Events on the TAP or one of the device's timers.
    pub rx_tap_event_count: AtomicU64,
    /// Notifications of the receive queue.
    pub rx_queue_event_count: AtomicU64,
    /// Notifications of the transmit queue.
    pub tx_queue_event_count: AtomicU64,
    /// Times that the guest had no buffer for a frame, or too small ones.
    pub no_rx_avail_buffer: AtomicU64,
    /// Bytes of frames that the guest received, without headers.
    pub rx_bytes_count: AtomicU64,
    /// Frames that the guest received.
    pub rx_packets_count: AtomicU64,
    /// Frames read from the TAP.
    pub rx_count: AtomicU64,
    /// Frames lost and buffers that cannot be filled.
    pub rx_fails: AtomicU64,
    /// Times that the rate limiter held frames back.
    pub rx_rate_limiter_throttled: AtomicU64,
    /// Reads from the TAP that failed.
    pub tap_read_fails: AtomicU64,
    /// Writes to the TAP that failed.
    pub tap_write_fails: AtomicU64,
    /// Bytes of frames that the guest sent, without headers.
    pub tx_bytes_count: AtomicU64,
    /// Frames that the guest sent.
    pub tx_packets_count: AtomicU64,
    /// Frames written to the TAP.
    pub tx_count: AtomicU64,
    /// Frames of the guest's that were lost.
    pub tx_fails: AtomicU64,
    /// Frames of the guest's that are none: too short, too long, or not in readable memory.
    pub tx_malformed_frames: AtomicU64,
    /// Times that the rate limiter held frames back.
    pub tx_rate_limiter_throttled: AtomicU64,
    /// Frames with another source address than the guest was given. They are sent all the same.
    pub tx_spoofed_mac_count: AtomicU64,
}

/// Counts one.
pub(super) fn count(counter: &AtomicU64) {
    add(counter, 1);
}

/// Counts `number`.
pub(super) fn add(counter: &AtomicU64, number: usize) {
    counter.fetch_add(number as u64, Ordering::Relaxed);
}
