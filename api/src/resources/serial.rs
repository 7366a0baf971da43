// SPDX-License-Identifier: Apache-2.0
//! `/serial`: where the guest's serial console goes.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::TokenBucket;

/// The serial console.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct Serial {
    /// A file or a named pipe for the output; without it, standard output.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub serial_out_path: Option<PathBuf>,
    /// A limit of the output in bytes; what is above it is dropped.
    #[serde(default)]
    pub rate_limiter: Option<TokenBucket>,
}
