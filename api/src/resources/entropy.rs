// SPDX-License-Identifier: Apache-2.0
//! `/entropy`: a source of random numbers.

use serde::{Deserialize, Serialize};

use super::RateLimiter;

/// The guest gets random numbers of the host's kernel.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct Entropy {
    /// Limits of what the guest can take.
    #[serde(default)]
    pub rate_limiter: Option<RateLimiter>,
}
