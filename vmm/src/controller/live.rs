// SPDX-License-Identifier: Apache-2.0
//! After the start: questions and changes to a VM that runs or is paused.

use std::io;

use secretvmm_api::{DriveUpdate, Fault, Live, NetworkInterfaceUpdate, Reply, VmConfigFile};

use crate::devices::virtio::ConfigChange;
use crate::vmm::{State, Vmm};

/// Takes the vCPUs out of the guest. As in Firecracker, what is so already is done.
pub(super) fn pause(vmm: &mut Vmm) -> Result<Reply, Fault> {
    match vmm.state() {
        State::Paused => Ok(Reply::NoContent),
        _ => vmm.pause().map(|()| Reply::NoContent).map_err(|err| Fault::from_error(&err)),
    }
}

/// Lets them go on.
pub(super) fn resume(vmm: &mut Vmm) -> Result<Reply, Fault> {
    match vmm.state() {
        State::Running => Ok(Reply::NoContent),
        _ => vmm.resume().map(|()| Reply::NoContent).map_err(|err| Fault::from_error(&err)),
    }
}

/// What the kernel says of guest memory.
pub(super) fn memory(vmm: &Vmm) -> Result<Reply, Fault> {
    vmm.memory_info().map(Reply::Memory).map_err(|err| no_account(&err))
}

/// The first sentence is Firecracker's, which clients look for.
pub(super) fn too_early(live: &Live) -> Fault {
    let name = live.name();
    Fault::new(format!("The requested operation is not supported before starting the microVM. {name} comes after it"))
}

/// Changes a drive; `resources` is kept true to it.
pub(super) fn update_drive(vmm: &Vmm, resources: &mut VmConfigFile, update: &DriveUpdate) -> Result<Reply, Fault> {
    let drive = vmm.devices().drive(&update.drive_id).ok_or_else(|| unknown("drive", &update.drive_id))?;
    drive.change(|block| block.update(update)).map_err(|err| Fault::from_error(&err))?;
    for drive in resources.drives.iter_mut().filter(|drive| drive.drive_id == update.drive_id) {
        drive.path_on_host = update.path_on_host.clone().or(drive.path_on_host.take());
        drive.rate_limiter = update.rate_limiter.or(drive.rate_limiter);
    }
    Ok(Reply::NoContent)
}

/// Changes a network interface; `resources` is kept true to it.
pub(super) fn update_network(
    vmm: &Vmm,
    resources: &mut VmConfigFile,
    update: &NetworkInterfaceUpdate,
) -> Result<Reply, Fault> {
    let network = vmm.devices().network(&update.iface_id);
    let network = network.ok_or_else(|| unknown("network interface", &update.iface_id))?;
    network.change(|net| (net.update(update), ConfigChange::No));
    for network in resources.network_interfaces.iter_mut().filter(|network| network.iface_id == update.iface_id) {
        network.rx_rate_limiter = update.rx_rate_limiter.or(network.rx_rate_limiter);
        network.tx_rate_limiter = update.tx_rate_limiter.or(network.tx_rate_limiter);
    }
    Ok(Reply::NoContent)
}

fn unknown(kind: &str, id: &str) -> Fault {
    Fault::new(format!("There is no {kind} {id:?}"))
}

/// The kernel's account of guest memory is in /proc, which a root folder of one's own may lack.
fn no_account(err: &io::Error) -> Fault {
    let remedy = "mount a procfs at /proc where the VMM runs, as secretvmm-jailer does";
    Fault::new(format!(
        "What the kernel maps of guest memory cannot be known, as /proc/self/fdinfo cannot be read: {err}; {remedy}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_too_early_is_refused_in_firecrackers_words() {
        let fault = too_early(&Live::Pause);
        assert_eq!(fault.status(), 400);
        let words = "The requested operation is not supported before starting the microVM.";
        assert_eq!(fault.message(), format!("{words} Pausing comes after it"));
    }
}
