// SPDX-License-Identifier: Apache-2.0
//! `/hotplug/memory`: parsed, so that a mistake is told apart from the refusal, then refused.

use serde::{Deserialize, Serialize};

/// The body of `PUT /hotplug/memory`. Sizes are in MiB.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct MemoryHotplug {
    /// The most that can be plugged.
    pub total_size_mib: u64,
    /// What the host plugs at a time.
    #[serde(default = "slot_size")]
    pub slot_size_mib: u64,
    /// What the guest plugs at a time.
    #[serde(default = "block_size")]
    pub block_size_mib: u64,
}

/// The body of `PATCH /hotplug/memory`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct MemoryHotplugUpdate {
    /// What shall be plugged, in MiB.
    pub requested_size_mib: u64,
}

fn slot_size() -> u64 {
    128
}

fn block_size() -> u64 {
    2
}
