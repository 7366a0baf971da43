// SPDX-License-Identifier: Apache-2.0
//! `/pmem/{id}`: parsed, so that a mistake is told apart from the refusal, then refused.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::RateLimiter;

/// The body of `PUT /pmem/{id}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct Pmem {
    /// Names the device in the API.
    pub id: String,
    /// The file to map into the guest.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub path_on_host: PathBuf,
    /// The guest's root file system is on it.
    #[serde(default)]
    pub root_device: bool,
    /// The guest cannot write.
    #[serde(default)]
    pub read_only: bool,
    /// Limits of the guest's flushes.
    #[serde(default)]
    pub rate_limiter: Option<RateLimiter>,
}

/// The body of `PATCH /pmem/{id}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct PmemUpdate {
    /// Names the device in the API.
    pub id: String,
    /// Other limits of the guest's flushes.
    #[serde(default)]
    pub rate_limiter: Option<RateLimiter>,
}
