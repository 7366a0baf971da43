//! Before the start: one resource after the other, each checked as far as it can be by itself.

use std::path::Path;

use secretvmm_api::{Action, Drive, Fault, NetworkInterface, Reply, VmConfigFile};

use crate::config::{VmConfig, machine_of};
use crate::devices::virtio::block::Block;
use crate::devices::virtio::net::Net;
use crate::devices::virtio::vsock::Vsock;
use crate::loader::{self, Initrd, Kernel};

/// Puts a resource, unless it could never be started.
pub(super) fn handle(resources: &mut VmConfigFile, action: Action) -> Result<Reply, Fault> {
    let mut next = resources.clone();
    match action {
        Action::PutBootSource(boot) => {
            check_images(&boot.kernel_image_path, boot.initrd_path.as_deref(), boot.boot_args.as_deref())
                .map_err(|err| Fault::from_error(&err))?;
            next.boot_source = Some(boot);
        }
        Action::PutMachineConfig(machine) => next.machine_config = Some(machine),
        Action::PatchMachineConfig(update) => next.machine_config = Some(machine_of(&next).updated(&update)),
        Action::PutCpuConfig(cpu) if cpu == Default::default() => {}
        Action::PutCpuConfig(_) => {
            return Err(Fault::new("CPU configurations are not supported; the guest sees the host's processor"));
        }
        Action::PutDrive(drive) => {
            // Opened again at the start, when it may have changed.
            Block::open(&drive).map_err(|err| Fault::from_error(&err))?;
            put(&mut next.drives, drive, |drive: &Drive| &drive.drive_id);
        }
        Action::PutNetworkInterface(network) => {
            Net::open(&network).map_err(|err| Fault::from_error(&err))?;
            put(&mut next.network_interfaces, network, |network: &NetworkInterface| &network.iface_id);
        }
        Action::PutVsock(vsock) => {
            Vsock::open(&vsock).map_err(|err| Fault::from_error(&err))?;
            next.vsock = Some(vsock);
        }
        Action::PutEntropy(entropy) => next.entropy = Some(entropy),
        Action::PutSerial(serial) => next.serial = Some(serial),
        Action::PutMmdsConfig(mmds) => next.mmds_config = Some(mmds),
        action => return Err(too_early(&action)),
    }
    let config = VmConfig::from_resources_so_far(&next).map_err(|err| Fault::from_error(&err))?;
    config.validate().map_err(|err| Fault::from_error(&err))?;
    *resources = next;
    Ok(Reply::NoContent)
}

/// The first sentence is Firecracker's, which clients look for.
fn too_early(action: &Action) -> Fault {
    let name = name(action);
    Fault::new(format!("The requested operation is not supported before starting the microVM. {name} comes after it"))
}

/// Replaces what has the same id, or adds it.
fn put<T>(list: &mut Vec<T>, item: T, id: impl Fn(&T) -> &String) {
    match list.iter_mut().find(|other| id(other) == id(&item)) {
        Some(other) => *other = item,
        None => list.push(item),
    }
}

fn check_images(kernel: &Path, initrd: Option<&Path>, cmdline: Option<&str>) -> Result<(), loader::Error> {
    let kernel = Kernel::open(kernel)?;
    initrd.map(Initrd::open).transpose()?;
    loader::check_cmdline(cmdline.unwrap_or_default(), kernel.cmdline_limit())
}

/// What a client calls an action.
pub(super) fn name(action: &Action) -> &'static str {
    match action {
        Action::GetInstanceInfo => "GET /",
        Action::GetVersion => "GET /version",
        Action::GetVmConfig => "GET /vm/config",
        Action::GetMachineConfig => "GET /machine-config",
        Action::GetMemory => "GET /memory",
        Action::GetAttestation(_) => "GET /attestation",
        Action::GetMmds => "GET /mmds",
        Action::PutBootSource(_) => "PUT /boot-source",
        Action::PutCpuConfig(_) => "PUT /cpu-config",
        Action::PutMachineConfig(_) => "PUT /machine-config",
        Action::PatchMachineConfig(_) => "PATCH /machine-config",
        Action::PutDrive(_) => "PUT /drives",
        Action::PatchDrive(_) => "PATCH /drives",
        Action::PutNetworkInterface(_) => "PUT /network-interfaces",
        Action::PatchNetworkInterface(_) => "PATCH /network-interfaces",
        Action::PutVsock(_) => "PUT /vsock",
        Action::PutEntropy(_) => "PUT /entropy",
        Action::PutSerial(_) => "PUT /serial",
        Action::PutLogger(_) => "PUT /logger",
        Action::PutMetrics(_) => "PUT /metrics",
        Action::PutMmds(_) => "PUT /mmds",
        Action::PatchMmds(_) => "PATCH /mmds",
        Action::PutMmdsConfig(_) => "PUT /mmds/config",
        Action::Start => "InstanceStart",
        Action::SendCtrlAltDel => "SendCtrlAltDel",
        Action::SendPowerButton => "SendPowerButton",
        Action::FlushMetrics => "FlushMetrics",
        Action::Pause => "Pausing",
        Action::Resume => "Resuming",
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_too_early_is_refused_in_firecrackers_words() {
        let fault = handle(&mut VmConfigFile::default(), Action::Pause).unwrap_err();
        assert_eq!(fault.status(), 400);
        let words = "The requested operation is not supported before starting the microVM.";
        assert_eq!(fault.message(), format!("{words} Pausing comes after it"));
    }
}
