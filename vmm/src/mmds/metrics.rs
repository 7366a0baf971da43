// SPDX-License-Identifier: Apache-2.0
//! What the metadata service counts, under Firecracker's names.

use serde::Serialize;

use crate::metrics::Counter;

/// Counters of one VM.
#[derive(Debug, Default, Serialize)]
pub struct Metrics {
    /// Frames of the guest's that were for the service.
    pub rx_accepted: Counter,
    /// Of these, those that it has no use for.
    pub rx_accepted_unusual: Counter,
    /// Requests without a token that needed one.
    pub rx_no_token: Counter,
    /// Requests with a token that is forged or too old.
    pub rx_invalid_token: Counter,
    /// Frames to the guest.
    pub tx_frames: Counter,
    /// Bytes of these.
    pub tx_bytes: Counter,
    /// Connections accepted.
    pub connections_created: Counter,
    /// Connections that are over.
    pub connections_destroyed: Counter,
}
