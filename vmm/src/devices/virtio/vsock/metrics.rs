// SPDX-License-Identifier: Apache-2.0
//! What the device counts, under Firecracker's names. "rx" is what the guest receives.

use crate::metrics::Counter;
use serde::Serialize;

/// Counters since the device was made.
#[derive(Debug, Default, Serialize)]
pub struct Metrics {
    /// The driver's rings were unusable when it was ready.
    pub activate_fails: Counter,
    /// Rx buffers too short for a packet, or outside of memory.
    pub rx_queue_event_fails: Counter,
    /// Tx buffers without a packet in them.
    pub tx_queue_event_fails: Counter,
    /// The host's descriptors could not be watched or accepted.
    pub muxer_event_fails: Counter,
    /// Packets and clients that broke a rule of the protocol.
    pub conn_event_fails: Counter,
    /// The driver announced rx buffers.
    pub rx_queue_event_count: Counter,
    /// The driver announced tx buffers.
    pub tx_queue_event_count: Counter,
    /// Bytes of data for the guest.
    pub rx_bytes_count: Counter,
    /// Bytes of data from the guest.
    pub tx_bytes_count: Counter,
    /// Packets for the guest.
    pub rx_packets_count: Counter,
    /// Packets from the guest.
    pub tx_packets_count: Counter,
    /// Connections begun, from either side.
    pub conns_added: Counter,
    /// Connections ended by the device: time was up, or the guest broke a rule.
    pub conns_killed: Counter,
    /// Connections ended, for any reason.
    pub conns_removed: Counter,
    /// What a socket had not taken at once was refused later.
    pub tx_flush_fails: Counter,
    /// A socket refused data from the guest.
    pub tx_write_fails: Counter,
    /// Data for the guest could not be read.
    pub rx_read_fails: Counter,
}
