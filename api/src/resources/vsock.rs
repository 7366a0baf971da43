// SPDX-License-Identifier: Apache-2.0
//! `/vsock`: sockets between host and guest.

use std::path::PathBuf;

use serde::{Deserialize, Deserializer, Serialize};

use super::bounds::within;

/// A vsock device, whose host side are unix sockets: one at `uds_path` for connections to the guest,
/// and those at `uds_path` with `_PORT` appended for connections from the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct Vsock {
    /// Deprecated and without effect.
    #[serde(default)]
    pub vsock_id: Option<String>,
    /// The guest's context id. Those below 3 and the last one mean the host, or any.
    #[serde(deserialize_with = "guest_cid")]
    #[cfg_attr(feature = "openapi", schema(minimum = 3, maximum = 4_294_967_294_u32, format = Int64))]
    pub guest_cid: u32,
    /// The path of the socket.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub uds_path: PathBuf,
}

fn guest_cid<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    within(deserializer, 3..=u32::MAX - 1)
}
