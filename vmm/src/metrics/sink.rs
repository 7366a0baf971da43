// SPDX-License-Identifier: Apache-2.0
//! Where metrics go.

use std::io;
use std::path::Path;
use std::time::SystemTime;

use secretvmm_api::MemoryInfo;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{METRICS, Metrics};
use crate::lines::Lines;

/// A file or named pipe for lines of JSON.
#[derive(Debug)]
pub struct Sink(Lines);

/// One line.
#[derive(Serialize)]
pub struct Report<'a> {
    utc_timestamp_ms: u64,
    #[serde(flatten)]
    process: &'a Metrics,
    /// By Firecracker's names: `block`, `block_ID`, `net_ID`, `vsock`, `entropy`, `mmds`.
    #[serde(flatten)]
    devices: Map<String, Value>,
    /// Ours: what the kernel says of guest memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_protection: Option<MemoryInfo>,
}

impl<'a> Report<'a> {
    /// The figures of this moment.
    pub fn now(devices: Map<String, Value>, memory_protection: Option<MemoryInfo>) -> Self {
        let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let utc_timestamp_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self { utc_timestamp_ms, process: &METRICS, devices, memory_protection }
    }
}

impl Sink {
    /// Opens it.
    ///
    /// # Errors
    /// It cannot be written to.
    pub fn open(path: &Path) -> io::Result<Self> {
        Lines::open(path).map(Self)
    }

    /// Writes a line.
    ///
    /// # Errors
    /// It was not taken whole: the disk or the pipe is full.
    pub fn write(&mut self, report: &Report) -> io::Result<()> {
        let line = serde_json::to_string(report)? + "\n";
        self.0.write(&line).inspect_err(|_| METRICS.logger.missed_metrics_count.inc())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn report_has_groups_and_devices_beside_each_other() {
        let devices = Map::from_iter([("block_root".to_owned(), serde_json::json!({"read_count": 1}))]);
        let value = serde_json::to_value(Report::now(devices, None)).unwrap();
        assert_eq!(value["block_root"]["read_count"], 1);
        assert!(value["vcpu"]["exit_io_out"].is_u64() && value["utc_timestamp_ms"].as_u64().unwrap() > 0);
    }
}
