// SPDX-License-Identifier: Apache-2.0
//! `/snapshot/create` and `/snapshot/load`: parsed, so that a mistake is told apart from the
//! refusal, then refused. A snapshot would carry hidden memory into a file.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The body of `PUT /snapshot/create`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct SnapshotCreate {
    /// All of the memory, or what has changed.
    #[serde(default)]
    pub snapshot_type: SnapshotType,
    /// The file for the state of vCPUs and devices.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub snapshot_path: PathBuf,
    /// The file for the memory.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub mem_file_path: PathBuf,
}

/// How much of the memory a snapshot has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum SnapshotType {
    /// All of it.
    #[default]
    Full,
    /// What has changed since the last one.
    Diff,
}

/// The body of `PUT /snapshot/load`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct SnapshotLoad {
    /// The file with the state of vCPUs and devices.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub snapshot_path: PathBuf,
    /// The file with the memory. Deprecated; either this or `mem_backend`.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub mem_file_path: Option<PathBuf>,
    /// Where the memory comes from.
    #[serde(default)]
    pub mem_backend: Option<SnapshotMemory>,
    /// Deprecated name of `track_dirty_pages`.
    #[serde(default)]
    pub enable_diff_snapshots: bool,
    /// Note which pages are written, for later snapshots.
    #[serde(default)]
    pub track_dirty_pages: bool,
    /// Run the VM at once.
    #[serde(default)]
    pub resume_vm: bool,
    /// Other TAPs than the snapshot's.
    #[serde(default)]
    pub network_overrides: Vec<NetworkOverride>,
    /// Another socket than the snapshot's.
    #[serde(default)]
    pub vsock_override: Option<VsockOverride>,
    /// Let the guest's clock jump to the present.
    #[serde(default)]
    pub clock_realtime: bool,
}

/// Where the memory of a snapshot comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct SnapshotMemory {
    /// What `backend_path` is.
    pub backend_type: SnapshotMemoryType,
    /// A file, or a socket where a process waits for a userfaultfd.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub backend_path: PathBuf,
}

/// What the memory of a snapshot comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum SnapshotMemoryType {
    /// A file.
    File,
    /// A process that answers page faults.
    Uffd,
}

/// Another TAP for an interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct NetworkOverride {
    /// The interface.
    pub iface_id: String,
    /// The TAP's name.
    pub host_dev_name: String,
}

/// Another socket for vsock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct VsockOverride {
    /// The socket's path.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub uds_path: PathBuf,
}
