//! After the start: questions and changes to a VM that runs or is paused.

use std::io;

use secretvmm_api::{Action, DriveUpdate, Fault, NetworkInterfaceUpdate, Reply, VmConfigFile};

use super::setup;
use crate::devices::virtio::ConfigChange;
use crate::vmm::{State, Vmm};

/// Asks or changes the VM; `resources` is kept true to it.
pub(super) fn handle(vmm: &mut Vmm, resources: &mut VmConfigFile, action: Action) -> Result<Reply, Fault> {
    match action {
        // As in Firecracker, what is so already is done.
        Action::Pause if vmm.state() == State::Paused => {}
        Action::Resume if vmm.state() == State::Running => {}
        Action::Pause => vmm.pause().map_err(|err| Fault::from_error(&err))?,
        Action::Resume => vmm.resume().map_err(|err| Fault::from_error(&err))?,
        Action::PatchDrive(update) => update_drive(vmm, resources, &update)?,
        Action::PatchNetworkInterface(update) => update_network(vmm, resources, &update)?,
        Action::GetMemory => return vmm.memory_info().map(Reply::Memory).map_err(|err| no_account(&err)),
        action => return Err(too_late(&action)),
    }
    Ok(Reply::NoContent)
}

/// The first sentence is Firecracker's, which clients look for.
fn too_late(action: &Action) -> Fault {
    let name = setup::name(action);
    Fault::new(format!("The requested operation is not supported after starting the microVM. {name} comes before it"))
}

fn update_drive(vmm: &Vmm, resources: &mut VmConfigFile, update: &DriveUpdate) -> Result<(), Fault> {
    let drive = vmm.devices().drive(&update.drive_id).ok_or_else(|| unknown("drive", &update.drive_id))?;
    drive.change(|block| block.update(update)).map_err(|err| Fault::from_error(&err))?;
    for drive in resources.drives.iter_mut().filter(|drive| drive.drive_id == update.drive_id) {
        drive.path_on_host = update.path_on_host.clone().or(drive.path_on_host.take());
        drive.rate_limiter = update.rate_limiter.or(drive.rate_limiter);
    }
    Ok(())
}

fn update_network(vmm: &Vmm, resources: &mut VmConfigFile, update: &NetworkInterfaceUpdate) -> Result<(), Fault> {
    let network = vmm.devices().network(&update.iface_id);
    let network = network.ok_or_else(|| unknown("network interface", &update.iface_id))?;
    network.change(|net| (net.update(update), ConfigChange::No));
    for network in resources.network_interfaces.iter_mut().filter(|network| network.iface_id == update.iface_id) {
        network.rx_rate_limiter = update.rx_rate_limiter.or(network.rx_rate_limiter);
        network.tx_rate_limiter = update.tx_rate_limiter.or(network.tx_rate_limiter);
    }
    Ok(())
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
