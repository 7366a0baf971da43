// SPDX-License-Identifier: Apache-2.0
//! `/metrics`: where the metrics go.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Where metrics are written, as lines of JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct Metrics {
    /// A file or a named pipe.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub metrics_path: PathBuf,
}
