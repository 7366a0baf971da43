// SPDX-License-Identifier: Apache-2.0
//! x86-64: everything a guest finds when its first instruction runs.

pub mod acpi;
pub mod boot_params;
pub mod cpuid;
pub mod msr;
pub mod regs;
pub mod reset_vector;

/// What can go wrong while the guest's initial state is written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Boot structures could not be written into guest memory.
    #[error("Boot structures could not be written into guest memory")]
    Memory(#[from] vm_memory::GuestMemoryError),
    /// A KVM call on a vCPU failed.
    #[error("KVM refused the initial {what} of a vCPU")]
    Vcpu {
        /// What was being set.
        what: &'static str,
        /// The kernel's answer.
        source: kvm_ioctls::Error,
    },
    /// KVM took only some of the MSRs.
    #[error("KVM refused the initial value of MSR {0:#x}")]
    Msr(u32),
    /// Too many entries for one of KVM's variable-length structures.
    #[error("KVM's table of {0} is full")]
    TableFull(&'static str),
    /// The ACPI tables outgrew their room.
    #[error("ACPI tables of {0} bytes do not fit below 1 MiB")]
    AcpiTooLarge(usize),
}

/// Turns a KVM error into ours.
fn vcpu_error(what: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> Error {
    move |source| Error::Vcpu { what, source }
}
