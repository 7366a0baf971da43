// SPDX-License-Identifier: Apache-2.0
//! The KVM side: the VM, its vCPUs, their threads, and interrupts.

mod irq;
mod kick;
mod vcpu;
mod vm;

use kvm_ioctls::{Cap, Error as KvmError};

pub use irq::connect as connect_irq;
pub use kick::install_handler as install_kick_handler;
pub use vcpu::{Vcpu, VcpuThread};
pub use vm::{
    SECRETMEM_EXCLUSIVE, SECRETMEM_HUGE, SECRETMEM_IMAGE, SECRETMEM_MEMSLOT, SECRETMEM_PFNCACHE, SECRETMEM_POOL, check,
    create, enforce_features, open, secretmem_features, secretmem_features_of_vm,
};

/// What can go wrong before a guest runs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no /dev/kvm.
    #[error("There is no /dev/kvm; load the module kvm_amd or kvm_intel, or switch on virtualisation in the firmware")]
    NoDevice,
    /// /dev/kvm may not be opened.
    #[error("No permission for /dev/kvm; add this user to the group kvm, or run as root")]
    NoPermission,
    /// /dev/kvm cannot be opened for another reason.
    #[error("/dev/kvm cannot be opened")]
    Open(#[source] KvmError),
    /// Something else than KVM answers, or a KVM of another age.
    #[error("/dev/kvm speaks API version {0}, but 12 is needed; use a Linux host with its own KVM")]
    Version(i32),
    /// A capability is missing.
    #[error("KVM lacks the capability {0:?}; use a newer host kernel")]
    Capability(Cap),
    /// More vCPUs than KVM takes.
    #[error("KVM takes at most {limit} vCPUs here; give --cpus {limit} or less")]
    TooManyVcpus {
        /// KVM's own limit.
        limit: usize,
    },
    /// A call on the VM failed.
    #[error("KVM could not {what}")]
    Vm {
        /// What was being done.
        what: &'static str,
        /// The kernel's answer.
        source: KvmError,
    },
    /// An eventfd could not be made.
    #[error("Event descriptor could not be made")]
    Event(#[source] std::io::Error),
    /// A vCPU thread could not be started.
    #[error("Thread of a vCPU could not be started")]
    Thread(#[source] std::io::Error),
    /// The signal that interrupts vCPUs could not be set up.
    #[error("Signal that interrupts vCPUs could not be set up")]
    Signal(#[source] KvmError),
}

/// Turns a KVM error into ours.
fn vm_error(what: &'static str) -> impl FnOnce(KvmError) -> Error {
    move |source| Error::Vm { what, source }
}
