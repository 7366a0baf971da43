// SPDX-License-Identifier: Apache-2.0
//! `/actions` and `/vm`: what a VM is told to do.

use serde::{Deserialize, Serialize};

/// The body of `PUT /actions`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct InstanceAction {
    /// What to do.
    pub action_type: ActionType,
}

/// What `PUT /actions` can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum ActionType {
    /// Writes the metrics out now.
    FlushMetrics,
    /// Starts the configured VM, once.
    InstanceStart,
    /// Asks the guest to shut down, or to reboot, by its keyboard.
    SendCtrlAltDel,
    /// Asks the guest to shut down, by its ACPI power button. Our own.
    SendPowerButton,
}

/// The body of `PATCH /vm`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct VmUpdate {
    /// What the VM shall be.
    pub state: VmState,
}

/// What a started VM can be told to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum VmState {
    /// Its vCPUs wait.
    Paused,
    /// Its vCPUs run.
    Resumed,
}
