//! What the device counts, under Firecracker's names. "rx" is what the guest receives.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

/// Counters since the device was made.
#[derive(Debug, Default, Serialize)]
pub struct Metrics {
    /// The driver's rings were unusable when it was ready.
    pub activate_fails: AtomicU64,
    /// Rx buffers too short for a packet, or outside of memory.
    pub rx_queue_event_fails: AtomicU64,
    /// Tx buffers without a packet in them.
    pub tx_queue_event_fails: AtomicU64,
    /// The host's descriptors could not be watched or accepted.
    pub muxer_event_fails: AtomicU64,
    /// Packets and clients that broke a rule of the protocol.
    pub conn_event_fails: AtomicU64,
    /// The driver announced rx buffers.
    pub rx_queue_event_count: AtomicU64,
    /// The driver announced tx buffers.
    pub tx_queue_event_count: AtomicU64,
    /// Bytes of data for the guest.
    pub rx_bytes_count: AtomicU64,
    /// Bytes of data from the guest.
    pub tx_bytes_count: AtomicU64,
    /// Packets for the guest.
    pub rx_packets_count: AtomicU64,
    /// Packets from the guest.
    pub tx_packets_count: AtomicU64,
    /// Connections begun, from either side.
    pub conns_added: AtomicU64,
    /// Connections ended by the device: time was up, or the guest broke a rule.
    pub conns_killed: AtomicU64,
    /// Connections ended, for any reason.
    pub conns_removed: AtomicU64,
    /// What a socket had not taken at once was refused later.
    pub tx_flush_fails: AtomicU64,
    /// A socket refused data from the guest.
    pub tx_write_fails: AtomicU64,
    /// Data for the guest could not be read.
    pub rx_read_fails: AtomicU64,
}

/// Adds `count` to a counter.
pub(super) fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}
