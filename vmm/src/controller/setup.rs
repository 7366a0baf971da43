// SPDX-License-Identifier: Apache-2.0
//! Before the start: one resource after the other, each checked as far as it can be by itself.

use std::path::Path;

use secretvmm_api::{Drive, Fault, NetworkInterface, Reply, Setup, VmConfigFile, refused};

use crate::config::{VmConfig, machine_of};
use crate::devices::virtio::block::Block;
use crate::devices::virtio::net::Net;
use crate::devices::virtio::vsock::Vsock;
use crate::loader::{self, Initrd, Kernel};

/// Puts a resource, unless it could never be started.
pub(super) fn put_resource(resources: &mut VmConfigFile, setup: Setup) -> Result<Reply, Fault> {
    let mut next = resources.clone();
    match setup {
        Setup::PutBootSource(boot) => {
            check_images(&boot.kernel_image_path, boot.initrd_path.as_deref(), boot.boot_args.as_deref())
                .map_err(|err| Fault::from_error(&err))?;
            next.boot_source = Some(boot);
        }
        Setup::PutMachineConfig(machine) => next.machine_config = Some(machine),
        Setup::PatchMachineConfig(update) => next.machine_config = Some(machine_of(&next).updated(&update)),
        Setup::PutCpuConfig(cpu) if cpu == Default::default() => {}
        Setup::PutCpuConfig(_) => {
            return Err(Fault::new(refused::CPU_TEMPLATE));
        }
        Setup::PutDrive(drive) => {
            // Opened again at the start, when it may have changed.
            Block::open(&drive).map_err(|err| Fault::from_error(&err))?;
            put(&mut next.drives, drive, |drive: &Drive| &drive.drive_id);
        }
        Setup::PutNetworkInterface(network) => {
            Net::open(&network).map_err(|err| Fault::from_error(&err))?;
            put(&mut next.network_interfaces, network, |network: &NetworkInterface| &network.iface_id);
        }
        Setup::PutVsock(vsock) => {
            Vsock::open(&vsock).map_err(|err| Fault::from_error(&err))?;
            next.vsock = Some(vsock);
        }
        Setup::PutEntropy(entropy) => next.entropy = Some(entropy),
        Setup::PutSerial(serial) => next.serial = Some(serial),
        Setup::PutMmdsConfig(mmds) => next.mmds_config = Some(mmds),
        // The controller's own.
        Setup::PutLogger(_) | Setup::PutMetrics(_) | Setup::Start => {}
    }
    let config = VmConfig::from_resources_so_far(&next).map_err(|err| Fault::from_error(&err))?;
    config.validate().map_err(|err| Fault::from_error(&err))?;
    *resources = next;
    Ok(Reply::NoContent)
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

/// The first sentence is Firecracker's, which clients look for.
pub(super) fn too_late(setup: &Setup) -> Fault {
    let name = setup.name();
    Fault::new(format!("The requested operation is not supported after starting the microVM. {name} comes before it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_too_late_is_refused_in_firecrackers_words() {
        let fault = too_late(&Setup::Start);
        assert_eq!(fault.status(), 400);
        let words = "The requested operation is not supported after starting the microVM.";
        assert_eq!(fault.message(), format!("{words} InstanceStart comes before it"));
    }
}
