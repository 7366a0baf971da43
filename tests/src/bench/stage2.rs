// SPDX-License-Identifier: Apache-2.0
//! A guest without an operating system that writes to each of its pages once, and what KVM's page tables for it look
//! like then.
#![allow(unsafe_code)] // It gives KVM a mapping by address.

use anyhow::{Context, Result, bail};
use kvm_bindings::{kvm_segment, kvm_userspace_memory_region};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd};
use nix::errno::Errno;

use super::memory::Memory;
use crate::host::stage2::Stage2;

/// Where the program lies and runs.
const ENTRY: usize = 0x1000;
const CR0_PE: u64 = 1;
const RFLAGS_RESERVED: u64 = 2;

/// Runs the guest on all of `memory`. None: `KVM_RUN` failed with EFAULT, so KVM does not get at such memory.
///
/// # Errors
/// There is no KVM, or the guest ended in any other way.
pub fn touch_all(memory: &Memory) -> Result<Option<Stage2>> {
    let vm = Kvm::new().context("Cannot open /dev/kvm")?.create_vm().context("Cannot create a VM")?;
    load(memory)?;
    let slot = kvm_userspace_memory_region {
        slot: 0,
        flags: 0,
        guest_phys_addr: 0,
        memory_size: memory.size() as u64,
        userspace_addr: memory.as_ptr().addr() as u64,
    };
    // SAFETY: the caller's memory outlives the VM, and nothing else uses it while the guest runs.
    unsafe { vm.set_user_memory_region(slot) }.context("Cannot add the memslot")?;
    let mut vcpu = vm.create_vcpu(0).context("Cannot create a vCPU")?;
    start(&vcpu)?;
    match vcpu.run() {
        Ok(VcpuExit::Hlt) => {}
        Ok(exit) => bail!("The guest left with {exit:?} instead of HLT"),
        Err(error) if error.errno() == Errno::EFAULT as i32 => return Ok(None),
        Err(error) => return Err(error).context("KVM_RUN failed"),
    }
    Stage2::of_process(std::process::id()).map(Some)
}

/// Puts the program into the guest's memory.
fn load(memory: &Memory) -> Result<()> {
    let end = u32::try_from(memory.size()).context("The guest has 32-bit addresses")?;
    for (offset, byte) in program(end).into_iter().enumerate() {
        // SAFETY: the memory is a multiple of 2 MiB, and the program ends far below.
        unsafe { memory.as_ptr().add(ENTRY + offset).write_volatile(byte) };
    }
    Ok(())
}

/// Writes near the end of each page below `end`, then halts. The program's own page survives that.
fn program(end: u32) -> Vec<u8> {
    let mut code = vec![0xbe, 0, 0, 0, 0]; // mov esi, 0
    code.extend([0x89, 0xb6, 0xf8, 0x0f, 0, 0]); // mov [esi + 0xff8], esi
    code.extend([0x81, 0xc6, 0, 0x10, 0, 0]); // add esi, 0x1000
    code.extend([0x81, 0xfe]); // cmp esi, end
    code.extend(end.to_le_bytes());
    code.extend([0x72, 0xec]); // jb to the write, 20 bytes back
    code.push(0xf4); // hlt
    code
}

/// 32-bit protected mode without paging, all segments flat.
fn start(vcpu: &VcpuFd) -> Result<()> {
    let mut system = vcpu.get_sregs()?;
    let flat = |selector, type_| kvm_segment {
        base: 0,
        limit: u32::MAX,
        selector,
        type_,
        present: 1,
        db: 1,
        s: 1,
        g: 1,
        ..kvm_segment::default()
    };
    system.cs = flat(0x08, 0xb);
    let data = flat(0x10, 0x3);
    (system.ds, system.es, system.fs, system.gs, system.ss) = (data, data, data, data, data);
    system.cr0 |= CR0_PE;
    vcpu.set_sregs(&system)?;
    let mut general = vcpu.get_regs()?;
    general.rip = ENTRY as u64;
    general.rflags = RFLAGS_RESERVED;
    Ok(vcpu.set_regs(&general)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn program_jumps_back_to_its_write() {
        let code = program(1 << 31);
        let after_jump = code.len() - 1;
        let target = after_jump as i64 + i64::from(code[after_jump - 1] as i8);
        assert_eq!(target, 5);
        assert_eq!(code[target as usize], 0x89);
    }
}
