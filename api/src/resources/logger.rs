// SPDX-License-Identifier: Apache-2.0
//! `/logger`: where the log goes.

use std::path::PathBuf;

use serde::{Deserialize, Deserializer, Serialize, de};

/// What to log, and where to. A missing field stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct Logger {
    /// A file or a named pipe.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub log_path: Option<PathBuf>,
    /// The least important message to log.
    #[serde(default)]
    pub level: Option<LogLevel>,
    /// Begin each message with its level.
    #[serde(default)]
    pub show_level: Option<bool>,
    /// Begin each message with its place in the source.
    #[serde(default)]
    pub show_log_origin: Option<bool>,
    /// Log only what comes from this module.
    #[serde(default)]
    pub module: Option<String>,
}

/// How important a message is. Any mixture of upper and lower case is understood, and `Warn` too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[allow(missing_docs)]
pub enum LogLevel {
    Off,
    Error,
    Warning,
    Info,
    Debug,
    Trace,
}

impl<'de> Deserialize<'de> for LogLevel {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.to_ascii_lowercase().as_str() {
            "off" => Ok(Self::Off),
            "error" => Ok(Self::Error),
            "warning" | "warn" => Ok(Self::Warning),
            "info" => Ok(Self::Info),
            "debug" => Ok(Self::Debug),
            "trace" => Ok(Self::Trace),
            _ => Err(de::Error::unknown_variant(&text, &["Off", "Error", "Warning", "Info", "Debug", "Trace"])),
        }
    }
}
