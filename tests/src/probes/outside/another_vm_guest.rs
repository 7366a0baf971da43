// SPDX-License-Identifier: Apache-2.0
//! A guest of a few instructions that copies one page from one memslot to another.
#![allow(unsafe_code)] // It gives KVM mappings by address.

use anyhow::{Context, Result, ensure};
use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::{Kvm, VcpuExit, VmFd};
use secretvmm_canary::PAGE_SIZE;

use crate::area::Area;

/// Where the guest has the other's memory; its own begins at 0.
const THEIRS: u64 = 0x1000_0000;
/// Where its program lies, and where it copies to.
const PROGRAM: u64 = 0x1000;
const COPY: u64 = 0x2000;
/// `cld; mov cx, 0x400; rep movsd; hlt`, in real mode: 4 KiB from ds:si to es:di.
const CODE: [u8; 8] = [0xfc, 0xb9, 0x00, 0x04, 0x66, 0xf3, 0xa5, 0xf4];

/// The page at an offset of `theirs`, as a guest that runs in `own` reads it.
pub(super) fn copy_page(own: &Area, theirs: &Area, offset: u64) -> Result<[u8; PAGE_SIZE]> {
    own.put(usize::try_from(PROGRAM)?, &CODE);
    let vm = Kvm::new()?.create_vm().context("Cannot create a VM")?;
    add_slot(&vm, 0, 0, own)?;
    add_slot(&vm, 1, THEIRS, theirs)?;
    let mut vcpu = vm.create_vcpu(0)?;
    let mut system = vcpu.get_sregs()?;
    (system.cs.base, system.cs.selector) = (0, 0);
    system.ds.base = THEIRS + offset;
    system.es.base = COPY;
    vcpu.set_sregs(&system)?;
    let mut general = vcpu.get_regs()?;
    (general.rip, general.rflags, general.rsi, general.rdi) = (PROGRAM, 2, 0, 0);
    vcpu.set_regs(&general)?;
    let exit = vcpu.run().context("The thief's guest does not run")?;
    ensure!(matches!(exit, VcpuExit::Hlt), "The thief's guest left with {exit:?}");
    let mut page = [0; PAGE_SIZE];
    own.get(usize::try_from(COPY)?, &mut page);
    Ok(page)
}

fn add_slot(vm: &VmFd, slot: u32, guest_phys_addr: u64, memory: &Area) -> Result<()> {
    let region = kvm_userspace_memory_region {
        slot,
        flags: 0,
        guest_phys_addr,
        memory_size: memory.length() as u64,
        userspace_addr: memory.address(),
    };
    // SAFETY: the mapping outlives the VM, and no Rust object is in it.
    unsafe { vm.set_user_memory_region(region) }.with_context(|| format!("Cannot add memslot {slot}"))
}
