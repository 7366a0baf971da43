// SPDX-License-Identifier: Apache-2.0
//! What a network device counts, under Firecracker's names.

use serde::Serialize;

use crate::metrics::Counter;

/// Counters of one device.
#[derive(Debug, Default, Serialize)]
pub struct Metrics {
    /// Events on the TAP or one of the device's timers.
    pub rx_tap_event_count: Counter,
    /// Notifications of the receive queue.
    pub rx_queue_event_count: Counter,
    /// Notifications of the transmit queue.
    pub tx_queue_event_count: Counter,
    /// Times that the guest had no buffer for a frame, or too small ones.
    pub no_rx_avail_buffer: Counter,
    /// Bytes of frames that the guest received, without headers.
    pub rx_bytes_count: Counter,
    /// Frames that the guest received.
    pub rx_packets_count: Counter,
    /// Frames read from the TAP.
    pub rx_count: Counter,
    /// Frames lost and buffers that cannot be filled.
    pub rx_fails: Counter,
    /// Times that the rate limiter held frames back.
    pub rx_rate_limiter_throttled: Counter,
    /// Reads from the TAP that failed.
    pub tap_read_fails: Counter,
    /// Writes to the TAP that failed.
    pub tap_write_fails: Counter,
    /// Bytes of frames that the guest sent, without headers.
    pub tx_bytes_count: Counter,
    /// Frames that the guest sent.
    pub tx_packets_count: Counter,
    /// Frames written to the TAP.
    pub tx_count: Counter,
    /// Frames of the guest's that were lost.
    pub tx_fails: Counter,
    /// Frames of the guest's that are none: too short, too long, or not in readable memory.
    pub tx_malformed_frames: Counter,
    /// Times that the rate limiter held frames back.
    pub tx_rate_limiter_throttled: Counter,
    /// Frames with another source address than the guest was given. They are sent all the same.
    pub tx_spoofed_mac_count: Counter,
}
