//! `/vsock`: sockets between host and guest.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A vsock device, whose host side are unix sockets: one at `uds_path` for connections to the guest,
/// and those at `uds_path` with `_PORT` appended for connections from the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vsock {
    /// Deprecated and without effect.
    #[serde(default)]
    pub vsock_id: Option<String>,
    /// The guest's context id, at least 3.
    pub guest_cid: u32,
    /// The path of the socket.
    pub uds_path: PathBuf,
}
