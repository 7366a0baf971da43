// SPDX-License-Identifier: Apache-2.0
//! Which metrics an action counts in.

use secretvmm_api::{Action, Any, Live, Setup};

use crate::metrics::{Counter, Latest, METRICS};

/// A count of requests, and that of those that failed.
type Counts = (&'static Counter, Option<&'static Counter>);

/// Where an action counts, as far as Firecracker has a counter for it.
pub(super) fn counters(action: &Action) -> Option<Counts> {
    match action {
        Action::Any(any) => of_any(any),
        Action::Setup(setup) => of_setup(setup),
        Action::Live(live) => of_live(live),
    }
}

fn of_any(any: &Any) -> Option<Counts> {
    let (get, put, patch) = (&METRICS.get_api_requests, &METRICS.put_api_requests, &METRICS.patch_api_requests);
    Some(match any {
        Any::GetInstanceInfo => (&get.instance_info_count, None),
        Any::GetVersion => (&get.vmm_version_count, None),
        Any::GetMachineConfig => (&get.machine_cfg_count, None),
        Any::GetMmds => (&get.mmds_count, None),
        Any::PutMmds(_) => (&put.mmds_count, Some(&put.mmds_fails)),
        Any::PatchMmds(_) => (&patch.mmds_count, Some(&patch.mmds_fails)),
        Any::GetVmConfig => return None,
    })
}

fn of_setup(setup: &Setup) -> Option<Counts> {
    let (put, patch) = (&METRICS.put_api_requests, &METRICS.patch_api_requests);
    Some(match setup {
        Setup::PutBootSource(_) => (&put.boot_source_count, Some(&put.boot_source_fails)),
        Setup::PutCpuConfig(_) => (&put.cpu_cfg_count, Some(&put.cpu_cfg_fails)),
        Setup::PutMachineConfig(_) => (&put.machine_cfg_count, Some(&put.machine_cfg_fails)),
        Setup::PatchMachineConfig(_) => (&patch.machine_cfg_count, Some(&patch.machine_cfg_fails)),
        Setup::PutDrive(_) => (&put.drive_count, Some(&put.drive_fails)),
        Setup::PutNetworkInterface(_) => (&put.network_count, Some(&put.network_fails)),
        Setup::PutVsock(_) => (&put.vsock_count, Some(&put.vsock_fails)),
        Setup::PutLogger(_) => (&put.logger_count, Some(&put.logger_fails)),
        Setup::PutMetrics(_) => (&put.metrics_count, Some(&put.metrics_fails)),
        Setup::PutMmdsConfig(_) => (&put.mmds_count, Some(&put.mmds_fails)),
        Setup::Start => (&put.actions_count, Some(&put.actions_fails)),
        Setup::PutEntropy(_) | Setup::PutSerial(_) => return None,
    })
}

fn of_live(live: &Live) -> Option<Counts> {
    let (put, patch) = (&METRICS.put_api_requests, &METRICS.patch_api_requests);
    Some(match live {
        Live::SendCtrlAltDel | Live::SendPowerButton | Live::FlushMetrics => {
            (&put.actions_count, Some(&put.actions_fails))
        }
        Live::PatchDrive(_) => (&patch.drive_count, Some(&patch.drive_fails)),
        Live::PatchNetworkInterface(_) => (&patch.network_count, Some(&patch.network_fails)),
        Live::GetMemory | Live::GetAttestation(_) | Live::Pause | Live::Resume => return None,
    })
}

/// Where the time that an action takes is noted.
pub(super) fn timer(action: &Action) -> Option<&'static Latest> {
    match action {
        Action::Live(Live::Pause) => Some(&METRICS.latencies_us.pause_vm),
        Action::Live(Live::Resume) => Some(&METRICS.latencies_us.resume_vm),
        Action::Any(_) | Action::Setup(_) | Action::Live(_) => None,
    }
}
