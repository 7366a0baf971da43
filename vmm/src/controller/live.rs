//! After the start: questions and changes to a VM that runs or is paused.

use secretvmm_api::{Action, Fault, Reply, VmConfigFile};

use super::setup;
use crate::vmm::{State, Vmm};

/// Asks or changes the VM; `resources` is kept true to it.
pub(super) fn handle(vmm: &mut Vmm, _resources: &mut VmConfigFile, action: Action) -> Result<Reply, Fault> {
    match action {
        // As in Firecracker, what is so already is done.
        Action::Pause if vmm.state() == State::Paused => {}
        Action::Resume if vmm.state() == State::Running => {}
        Action::Pause => vmm.pause().map_err(|err| Fault::from_error(&err))?,
        Action::Resume => vmm.resume().map_err(|err| Fault::from_error(&err))?,
        Action::GetMemory => return vmm.memory_info().map(Reply::Memory).map_err(|err| Fault::from_error(&err)),
        action => return Err(Fault::new(format!("{} is for a VM that has not been started", setup::name(&action)))),
    }
    Ok(Reply::NoContent)
}
