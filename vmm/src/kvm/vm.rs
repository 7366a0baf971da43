// SPDX-License-Identifier: Apache-2.0
//! Opening KVM, asking what it can do, and creating the VM.
#![allow(unsafe_code)] // KVM_SET_USER_MEMORY_REGION takes addresses of this process.

use kvm_bindings::{
    KVM_CAP_ENFORCE_PV_FEATURE_CPUID, KVM_CAP_PMU_CAPABILITY, KVM_PIT_SPEAKER_DUMMY, KVM_PMU_CAP_DISABLE,
    kvm_enable_cap, kvm_pit_config, kvm_userspace_memory_region,
};
use kvm_ioctls::{Cap, Kvm, VcpuFd, VmFd};
use vm_memory::GuestMemoryBackend;

use super::{Error, vm_error};
use crate::layout;
use crate::memory::GuestMemory;

/// Capability of the host-kernel series ("SMEM"): a bitmask of what works with secret memory.
const KVM_CAP_SECRETMEM: u64 = 0x534d_454d;
/// Memslots on secret mappings run.
pub const SECRETMEM_MEMSLOT: u32 = 1 << 0;
/// kvm-clock and the other users of gfn_to_pfn_cache work on secret memory.
pub const SECRETMEM_PFNCACHE: u32 = 1 << 1;
/// Secret memory comes in 2 MiB pages, and `fallocate(2)` populates it.
pub const SECRETMEM_HUGE: u32 = 1 << 3;
/// There is a pool of secret memory, reserved at boot.
pub const SECRETMEM_POOL: u32 = 1 << 4;
/// Secret files can be bound to the process that creates them.
pub const SECRETMEM_EXCLUSIVE: u32 = 1 << 5;
/// Frames of the kernel's image have lost their second mapping before they become secret memory.
pub const SECRETMEM_IMAGE: u32 = 1 << 6;

const API_VERSION: i32 = 12;
const REQUIRED: [Cap; 10] = [
    Cap::UserMemory,
    Cap::Irqchip,
    Cap::Irqfd,
    Cap::Pit2,
    Cap::ExtCpuid,
    Cap::SetTssAddr,
    Cap::SetIdentityMapAddr,
    Cap::MpState,
    Cap::ImmediateExit,
    Cap::KvmclockCtrl,
];

/// Opens /dev/kvm.
pub fn open() -> Result<Kvm, Error> {
    Kvm::new().map_err(|err| match err.errno() {
        libc::ENOENT | libc::ENXIO | libc::ENODEV => Error::NoDevice,
        libc::EACCES | libc::EPERM => Error::NoPermission,
        _ => Error::Open(err),
    })
}

/// Checks that this KVM has what every guest of ours needs.
pub fn check(kvm: &Kvm, cpus: u8) -> Result<(), Error> {
    let version = kvm.get_api_version();
    if version != API_VERSION {
        return Err(Error::Version(version));
    }
    if let Some(cap) = REQUIRED.into_iter().find(|cap| !kvm.check_extension(*cap)) {
        return Err(Error::Capability(cap));
    }
    let limit = kvm.get_max_vcpus();
    if usize::from(cpus) > limit {
        return Err(Error::TooManyVcpus { limit });
    }
    Ok(())
}

/// What the host kernel can do with secret memory: a mask of `SECRETMEM_*`, 0 without the series.
pub fn secretmem_features(kvm: &Kvm) -> u32 {
    u32::try_from(kvm.check_extension_raw(KVM_CAP_SECRETMEM)).unwrap_or(0)
}

/// The same, asked of a VM.
pub fn secretmem_features_of_vm(vm: &VmFd) -> u32 {
    u32::try_from(vm.check_extension_raw(KVM_CAP_SECRETMEM)).unwrap_or(0)
}

/// Creates a VM with `memory` in its memslots, an interrupt controller and a PIT.
pub fn create(kvm: &Kvm, memory: &GuestMemory) -> Result<VmFd, Error> {
    let vm = kvm.create_vm().map_err(vm_error("create a VM"))?;
    set_memslots(&vm, memory)?;
    vm.set_identity_map_address(layout::KVM_IDENTITY_MAP).map_err(vm_error("set the identity map"))?;
    vm.set_tss_address(layout::KVM_TSS as usize).map_err(vm_error("set the task state segment"))?;
    vm.create_irq_chip().map_err(vm_error("create the interrupt controllers"))?;
    let pit = kvm_pit_config { flags: KVM_PIT_SPEAKER_DUMMY, ..Default::default() };
    vm.create_pit2(pit).map_err(vm_error("create the interval timer"))?;
    hide_pmu(kvm, &vm);
    Ok(vm)
}

/// One slot a region. Host address, guest address and file offset agree modulo 2 MiB.
fn set_memslots(vm: &VmFd, memory: &GuestMemory) -> Result<(), Error> {
    for (slot, region) in memory.iter().enumerate() {
        let slot = kvm_userspace_memory_region {
            slot: slot as u32,
            flags: 0,
            guest_phys_addr: region.slot().gpa,
            memory_size: region.slot().size,
            userspace_addr: region.host_address(),
        };
        // SAFETY: the region is a whole mapping of ours. The VM owner keeps `memory`, and with it
        // the mapping, until the VM and its vCPUs are gone (see vmm::Vmm).
        unsafe { vm.set_user_memory_region(slot) }.map_err(vm_error("register guest memory"))?;
    }
    Ok(())
}

/// What CPUID does not offer of KVM's own features the guest does not get either, by MSR or hypercall. An older KVM does not
/// look.
pub fn enforce_features(kvm: &Kvm, vcpu: &VcpuFd) {
    if kvm.check_extension_raw(KVM_CAP_ENFORCE_PV_FEATURE_CPUID.into()) <= 0 {
        return;
    }
    let mut cap = kvm_enable_cap { cap: KVM_CAP_ENFORCE_PV_FEATURE_CPUID, ..Default::default() };
    cap.args[0] = 1;
    if let Err(err) = vcpu.enable_cap(&cap) {
        log::warn!("A guest may use features of KVM that it is not offered: {err}");
    }
}

/// The guest gets no performance counters: CPUID has none, and KVM then need not emulate the
/// registers. An older KVM that cannot say so loses nothing.
fn hide_pmu(kvm: &Kvm, vm: &VmFd) {
    if kvm.check_extension_raw(KVM_CAP_PMU_CAPABILITY.into()) as u32 & KVM_PMU_CAP_DISABLE == 0 {
        return;
    }
    let mut cap = kvm_enable_cap { cap: KVM_CAP_PMU_CAPABILITY, ..Default::default() };
    if let Some(arg) = cap.args.first_mut() {
        *arg = u64::from(KVM_PMU_CAP_DISABLE);
    }
    if let Err(err) = vm.enable_cap(&cap) {
        log::debug!("Performance counters could not be switched off: {err}");
    }
}
