// SPDX-License-Identifier: Apache-2.0
//! What is counted, and how it is written: one line of JSON a time, under Firecracker's names where
//! the thing is the same.

mod counter;
mod sink;

use std::sync::LazyLock;

use serde::Serialize;

pub use counter::{Counter, Latest};
pub use sink::{Report, Sink};

/// The counters of the process; those of devices are with the devices.
pub static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::default);

/// Groups of counters.
#[derive(Debug, Default, Serialize)]
#[allow(missing_docs)]
pub struct Metrics {
    pub get_api_requests: GetRequests,
    pub put_api_requests: PutRequests,
    pub patch_api_requests: PatchRequests,
    pub latencies_us: Latencies,
    pub logger: LoggerMetrics,
    pub uart: UartMetrics,
    pub vcpu: VcpuMetrics,
}

/// Questions by clients.
#[derive(Debug, Default, Serialize)]
#[allow(missing_docs)]
pub struct GetRequests {
    pub instance_info_count: Counter,
    pub machine_cfg_count: Counter,
    pub mmds_count: Counter,
    pub vmm_version_count: Counter,
}

/// `PUT` requests, and those that failed.
#[derive(Debug, Default, Serialize)]
#[allow(missing_docs)]
pub struct PutRequests {
    pub actions_count: Counter,
    pub actions_fails: Counter,
    pub boot_source_count: Counter,
    pub boot_source_fails: Counter,
    pub cpu_cfg_count: Counter,
    pub cpu_cfg_fails: Counter,
    pub drive_count: Counter,
    pub drive_fails: Counter,
    pub logger_count: Counter,
    pub logger_fails: Counter,
    pub machine_cfg_count: Counter,
    pub machine_cfg_fails: Counter,
    pub metrics_count: Counter,
    pub metrics_fails: Counter,
    pub mmds_count: Counter,
    pub mmds_fails: Counter,
    pub network_count: Counter,
    pub network_fails: Counter,
    pub vsock_count: Counter,
    pub vsock_fails: Counter,
}

/// `PATCH` requests, and those that failed.
#[derive(Debug, Default, Serialize)]
#[allow(missing_docs)]
pub struct PatchRequests {
    pub drive_count: Counter,
    pub drive_fails: Counter,
    pub machine_cfg_count: Counter,
    pub machine_cfg_fails: Counter,
    pub mmds_count: Counter,
    pub mmds_fails: Counter,
    pub network_count: Counter,
    pub network_fails: Counter,
}

/// How long the last one took, in microseconds.
#[derive(Debug, Default, Serialize)]
#[allow(missing_docs)]
pub struct Latencies {
    pub pause_vm: Latest,
    pub resume_vm: Latest,
    /// Ours: from InstanceStart to running vCPU threads.
    pub start_vm: Latest,
}

/// Messages that were lost.
#[derive(Debug, Default, Serialize)]
#[allow(missing_docs)]
pub struct LoggerMetrics {
    pub missed_log_count: Counter,
    pub missed_metrics_count: Counter,
}

/// Bytes of the guest's output that were lost.
#[derive(Debug, Default, Serialize)]
#[allow(missing_docs)]
pub struct UartMetrics {
    pub missed_write_count: Counter,
    pub rate_limiter_dropped_bytes: Counter,
}

/// Exits of all vCPUs to this process.
#[derive(Debug, Default, Serialize)]
#[allow(missing_docs)]
pub struct VcpuMetrics {
    pub exit_io_in: Counter,
    pub exit_io_out: Counter,
    pub exit_mmio_read: Counter,
    pub exit_mmio_write: Counter,
    pub failures: Counter,
}
