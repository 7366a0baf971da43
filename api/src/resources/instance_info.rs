// SPDX-License-Identifier: Apache-2.0
//! `/` and `/version`: what is running here.

use serde::{Deserialize, Serialize};

/// The answer to `GET /`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct InstanceInfo {
    /// The VM's name (`--id`).
    pub id: String,
    /// Where the VM stands.
    pub state: InstanceState,
    /// The version of the VMM.
    pub vmm_version: String,
    /// The name of the VMM.
    pub app_name: String,
}

/// Where a VM stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum InstanceState {
    /// It can still be configured.
    #[serde(rename = "Not started")]
    NotStarted,
    /// Its vCPUs run.
    Running,
    /// Its vCPUs wait.
    Paused,
}

/// The answer to `GET /version`. The field has the name that clients look for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct Version {
    /// The version of the VMM.
    pub firecracker_version: String,
}
