// SPDX-License-Identifier: Apache-2.0
//! `/drives/{drive_id}`: block devices.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::RateLimiter;

/// A block device. Either `path_on_host` (a file) or `socket` (vhost-user) says what is behind it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct Drive {
    /// Names the drive in the API.
    pub drive_id: String,
    /// The guest's root file system is on it.
    pub is_root_device: bool,
    /// The partition with the root file system, by its UUID; for a root device.
    #[serde(default)]
    pub partuuid: Option<String>,
    /// Whether the guest may ask for its writes to be made durable.
    #[serde(default)]
    pub cache_type: CacheType,
    /// The guest cannot write. Without it a file is writable.
    #[serde(default)]
    pub is_read_only: Option<bool>,
    /// The file that holds the blocks.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub path_on_host: Option<PathBuf>,
    /// Limits of what the guest can read and write.
    #[serde(default)]
    pub rate_limiter: Option<RateLimiter>,
    /// How the file is read and written.
    #[serde(default)]
    pub io_engine: Option<IoEngine>,
    /// The socket of a vhost-user device.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub socket: Option<PathBuf>,
}

/// What `PATCH /drives/{drive_id}` can change while the VM runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct DriveUpdate {
    /// Names the drive in the API.
    pub drive_id: String,
    /// Another file; the same path again reads its size anew.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub path_on_host: Option<PathBuf>,
    /// Other limits. A bucket of size 0 removes its limit; a missing one stays as it is.
    #[serde(default)]
    pub rate_limiter: Option<RateLimiter>,
}

/// What a guest's flush means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum CacheType {
    /// The guest is offered no flush.
    #[default]
    Unsafe,
    /// A flush ends when the data are on the host's disk.
    Writeback,
}

/// How a drive's file is read and written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum IoEngine {
    /// By system calls of the thread that serves the device.
    #[default]
    Sync,
    /// By io_uring.
    Async,
}
