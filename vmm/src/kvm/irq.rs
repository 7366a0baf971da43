// SPDX-License-Identifier: Apache-2.0
//! Interrupt lines: an eventfd that KVM itself turns into an edge on a GSI.

use kvm_ioctls::VmFd;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::{Error, vm_error};

/// Makes an irqfd on `gsi`: each write is one edge.
pub fn connect(vm: &VmFd, gsi: u32) -> Result<EventFd, Error> {
    let event = EventFd::new(EFD_NONBLOCK).map_err(Error::Event)?;
    vm.register_irqfd(&event, gsi).map_err(vm_error("connect an interrupt"))?;
    Ok(event)
}
