// SPDX-License-Identifier: Apache-2.0
//! `/balloon`: parsed, so that a mistake is told apart from the refusal, then refused. Pages that a
//! guest gives back would have to leave hidden memory while it runs.

use serde::{Deserialize, Serialize};

/// The body of `PUT /balloon`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct Balloon {
    /// Size to aim at, in MiB.
    #[cfg_attr(feature = "openapi", schema(maximum = 4_294_967_295_u32, format = Int64))]
    pub amount_mib: u32,
    /// Give memory back when the guest runs out of it.
    pub deflate_on_oom: bool,
    /// Seconds between two statistics; 0 for none.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(maximum = 65535))]
    pub stats_polling_interval_s: u16,
    /// The guest names its free pages on request.
    #[serde(default)]
    pub free_page_hinting: bool,
    /// The guest names pages as they become free.
    #[serde(default)]
    pub free_page_reporting: bool,
}

/// The body of `PATCH /balloon`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct BalloonUpdate {
    /// Size to aim at, in MiB.
    #[cfg_attr(feature = "openapi", schema(maximum = 4_294_967_295_u32, format = Int64))]
    pub amount_mib: u32,
}

/// The body of `PATCH /balloon/statistics`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct BalloonStatisticsUpdate {
    /// Seconds between two statistics.
    #[cfg_attr(feature = "openapi", schema(maximum = 65535))]
    pub stats_polling_interval_s: u16,
}

/// The body of `PATCH /balloon/hinting/start`; it may be absent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct BalloonHintingStart {
    /// Confirm the end of a run without being asked.
    #[serde(default = "yes")]
    pub acknowledge_on_stop: bool,
}

fn yes() -> bool {
    true
}
