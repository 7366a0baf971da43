// SPDX-License-Identifier: Apache-2.0
//! Limits of a device's traffic: parts of other resources.

use serde::{Deserialize, Serialize};

/// Up to two limits, each of which holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct RateLimiter {
    /// Of bytes.
    #[serde(default)]
    pub bandwidth: Option<TokenBucket>,
    /// Of requests or packets.
    #[serde(default)]
    pub ops: Option<TokenBucket>,
}

/// A bucket of tokens, refilled evenly. With size or refill time 0 there is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct TokenBucket {
    /// Tokens that the bucket holds.
    #[cfg_attr(feature = "openapi", schema(format = "uint64"))]
    pub size: u64,
    /// Tokens on top of them that are spent first and never refilled.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(format = "uint64"))]
    pub one_time_burst: Option<u64>,
    /// Milliseconds in which an empty bucket is full again.
    #[cfg_attr(feature = "openapi", schema(format = "uint64"))]
    pub refill_time: u64,
}
