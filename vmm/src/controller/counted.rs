//! Which metrics an action counts in.

use secretvmm_api::Action;

use crate::metrics::{Counter, Latest, METRICS};

/// The count of an action, and that of its failures.
pub(super) fn counters(action: &Action) -> Option<(&'static Counter, Option<&'static Counter>)> {
    let (get, put, patch) = (&METRICS.get_api_requests, &METRICS.put_api_requests, &METRICS.patch_api_requests);
    Some(match action {
        Action::GetInstanceInfo => (&get.instance_info_count, None),
        Action::GetVersion => (&get.vmm_version_count, None),
        Action::GetMachineConfig => (&get.machine_cfg_count, None),
        Action::GetMmds => (&get.mmds_count, None),
        Action::PutBootSource(_) => (&put.boot_source_count, Some(&put.boot_source_fails)),
        Action::PutCpuConfig(_) => (&put.cpu_cfg_count, Some(&put.cpu_cfg_fails)),
        Action::PutMachineConfig(_) => (&put.machine_cfg_count, Some(&put.machine_cfg_fails)),
        Action::PutDrive(_) => (&put.drive_count, Some(&put.drive_fails)),
        Action::PutNetworkInterface(_) => (&put.network_count, Some(&put.network_fails)),
        Action::PutVsock(_) => (&put.vsock_count, Some(&put.vsock_fails)),
        Action::PutLogger(_) => (&put.logger_count, Some(&put.logger_fails)),
        Action::PutMetrics(_) => (&put.metrics_count, Some(&put.metrics_fails)),
        Action::PutMmds(_) | Action::PutMmdsConfig(_) => (&put.mmds_count, Some(&put.mmds_fails)),
        Action::Start | Action::SendCtrlAltDel | Action::SendPowerButton | Action::FlushMetrics => {
            (&put.actions_count, Some(&put.actions_fails))
        }
        Action::PatchMachineConfig(_) => (&patch.machine_cfg_count, Some(&patch.machine_cfg_fails)),
        Action::PatchDrive(_) => (&patch.drive_count, Some(&patch.drive_fails)),
        Action::PatchNetworkInterface(_) => (&patch.network_count, Some(&patch.network_fails)),
        Action::PatchMmds(_) => (&patch.mmds_count, Some(&patch.mmds_fails)),
        _ => return None,
    })
}

/// Where the time that an action takes is noted.
pub(super) fn timer(action: &Action) -> Option<&'static Latest> {
    let latencies = &METRICS.latencies_us;
    match action {
        Action::Pause => Some(&latencies.pause_vm),
        Action::Resume => Some(&latencies.resume_vm),
        _ => None,
    }
}
