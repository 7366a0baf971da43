// SPDX-License-Identifier: Apache-2.0
//! What a client gets instead of what it asked for.

use serde::{Deserialize, Serialize};

/// The body of every answer that is not of status 200 or 204.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct FaultMessage {
    /// Why not, and what to do.
    pub fault_message: String,
}
