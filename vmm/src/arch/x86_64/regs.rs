// SPDX-License-Identifier: Apache-2.0
//! Registers of the boot vCPU, its GDT and page tables, and the local APIC's wiring.

use kvm_bindings::{kvm_fpu, kvm_lapic_state, kvm_regs, kvm_segment, kvm_sregs, kvm_xcr, kvm_xcrs};
use kvm_ioctls::VcpuFd;
use vm_memory::{Bytes, GuestAddress};

use super::{Error, vcpu_error};
use crate::layout;
use crate::memory::GuestMemory;

const CR0_PE: u64 = 1;
const CR0_ET: u64 = 1 << 4;
const CR0_PG: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;
const RFLAGS_ALWAYS: u64 = 2;

const PTE_PRESENT_WRITABLE: u64 = 0b11;
const PTE_HUGE: u64 = 1 << 7;
const PMD: u64 = 2 << 20;

/// Descriptor types with the accessed (code, data) or busy (TSS) bit set.
const CODE: u8 = 0xb;
const DATA: u8 = 0x3;
const TSS: u8 = 0xb;

/// How the kernel is entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// 64-bit mode, paging on, RSI → zero page.
    Long(u64),
    /// 32-bit protected mode, paging off, EBX → PVH start info.
    Pvh(u64),
}

/// Writes the GDT and page tables that the registers of [`set_boot_registers`] refer to.
pub fn write_boot_tables(memory: &GuestMemory, entry: Entry) -> Result<(), Error> {
    for (index, descriptor) in gdt(entry).into_iter().enumerate() {
        memory.write_obj(descriptor, GuestAddress(layout::BOOT_GDT + 8 * index as u64))?;
    }
    if let Entry::Long(_) = entry {
        write_page_tables(memory)?;
    }
    Ok(())
}

/// Maps the first 4 GiB one to one with 2M leaves: kernel, zero page, command line and initrd
/// may lie anywhere below the hole.
fn write_page_tables(memory: &GuestMemory) -> Result<(), Error> {
    memory.write_obj(layout::BOOT_PDPT | PTE_PRESENT_WRITABLE, GuestAddress(layout::BOOT_PML4))?;
    for gigabyte in 0..4 {
        let directory = layout::BOOT_PD + 0x1000 * gigabyte;
        memory.write_obj(directory | PTE_PRESENT_WRITABLE, GuestAddress(layout::BOOT_PDPT + 8 * gigabyte))?;
        let mut entries = Vec::with_capacity(4096);
        for index in 0..512 {
            let address = (gigabyte << 30) + index * PMD;
            entries.extend_from_slice(&(address | PTE_HUGE | PTE_PRESENT_WRITABLE).to_le_bytes());
        }
        memory.write_slice(&entries, GuestAddress(directory))?;
    }
    Ok(())
}

/// Sets general, segment and control registers of the boot vCPU.
pub fn set_boot_registers(vcpu: &VcpuFd, entry: Entry) -> Result<(), Error> {
    let mut sregs = vcpu.get_sregs().map_err(vcpu_error("segment registers"))?;
    fill_sregs(&mut sregs, entry);
    vcpu.set_sregs(&sregs).map_err(vcpu_error("segment registers"))?;
    vcpu.set_regs(&general(entry)).map_err(vcpu_error("general registers"))
}

/// Sets the FPU's power-on state (all exceptions masked).
pub fn set_fpu(vcpu: &VcpuFd) -> Result<(), Error> {
    let fpu = kvm_fpu { fcw: 0x37f, mxcsr: 0x1f80, ..Default::default() };
    vcpu.set_fpu(&fpu).map_err(vcpu_error("FPU state"))
}

/// Switches on every processor state that CPUID offers (`mask`), as firmware may leave it.
///
/// Leaf 0xd tells the size of the states that are *on*; KVM brings it up to date when the guest
/// executes XSETBV. A nested processor that does not report XSETBV (QEMU's emulated SVM) would
/// leave it at the size of the least state, which Linux takes for a broken CPU.
pub fn set_xcr0(vcpu: &VcpuFd, mask: u64) -> Result<(), Error> {
    let mut xcrs = kvm_xcrs { nr_xcrs: 1, ..Default::default() };
    xcrs.xcrs[0] = kvm_xcr { xcr: 0, value: mask, ..Default::default() };
    vcpu.set_xcrs(&xcrs).map_err(vcpu_error("extended control register"))
}

/// Wires LINT0 to the PIC (ExtINT) and LINT1 to NMI, as firmware leaves a PC.
pub fn set_local_apic(vcpu: &VcpuFd) -> Result<(), Error> {
    const LVT_LINT0: usize = 0x350;
    const LVT_LINT1: usize = 0x360;
    const EXTINT: u32 = 0x700;
    const NMI: u32 = 0x400;
    let mut lapic = vcpu.get_lapic().map_err(vcpu_error("local APIC"))?;
    write_lapic(&mut lapic, LVT_LINT0, EXTINT);
    write_lapic(&mut lapic, LVT_LINT1, NMI);
    vcpu.set_lapic(&lapic).map_err(vcpu_error("local APIC"))
}

fn write_lapic(lapic: &mut kvm_lapic_state, register: usize, value: u32) {
    for (target, byte) in lapic.regs.iter_mut().skip(register).zip(value.to_le_bytes()) {
        *target = byte as i8;
    }
}

fn general(entry: Entry) -> kvm_regs {
    let regs = kvm_regs { rflags: RFLAGS_ALWAYS, ..Default::default() };
    match entry {
        Entry::Long(rip) => kvm_regs { rip, rsi: layout::ZERO_PAGE, ..regs },
        Entry::Pvh(rip) => kvm_regs { rip, rbx: layout::PVH_INFO, ..regs },
    }
}

fn fill_sregs(sregs: &mut kvm_sregs, entry: Entry) {
    let (code, data, tss) = segments(entry);
    sregs.gdt.base = layout::BOOT_GDT;
    sregs.gdt.limit = (8 * gdt(entry).len() - 1) as u16;
    sregs.idt.base = 0;
    sregs.idt.limit = 0;
    sregs.cs = code;
    for segment in [&mut sregs.ds, &mut sregs.es, &mut sregs.fs, &mut sregs.gs, &mut sregs.ss] {
        *segment = data;
    }
    sregs.tr = tss;
    sregs.cr0 = CR0_PE | CR0_ET;
    sregs.cr4 = 0;
    sregs.efer = 0;
    if let Entry::Long(_) = entry {
        sregs.cr3 = layout::BOOT_PML4;
        sregs.cr4 = CR4_PAE;
        sregs.cr0 |= CR0_PG;
        sregs.efer = EFER_LME | EFER_LMA;
    }
}

/// Code at selector 0x10 and data at 0x18 as boot.rst asks, a TSS at 0x20.
fn segments(entry: Entry) -> (kvm_segment, kvm_segment, kvm_segment) {
    let long = matches!(entry, Entry::Long(_));
    let flat = |selector, type_, l: bool| kvm_segment {
        base: 0,
        limit: u32::MAX,
        selector,
        type_,
        present: 1,
        s: 1,
        g: 1,
        l: l.into(),
        db: (!l).into(),
        ..Default::default()
    };
    let tss = kvm_segment { limit: 0x67, selector: 0x20, type_: TSS, present: 1, ..Default::default() };
    (flat(0x10, CODE, long), flat(0x18, DATA, false), tss)
}

fn gdt(entry: Entry) -> [u64; 5] {
    let (code, data, tss) = segments(entry);
    [0, 0, descriptor(&code), descriptor(&data), descriptor(&tss)]
}

/// The 8-byte descriptor of a segment with base 0 (Intel SDM volume 3, 3.4.5).
fn descriptor(segment: &kvm_segment) -> u64 {
    let limit = if segment.g == 1 { segment.limit >> 12 } else { segment.limit };
    let (low, high) = (u64::from(limit & 0xffff), u64::from(limit >> 16 & 0xf));
    let access = segment.type_ | segment.s << 4 | segment.dpl << 5 | segment.present << 7;
    let flags = segment.avl | segment.l << 1 | segment.db << 2 | segment.g << 3;
    low | u64::from(access) << 40 | high << 48 | u64::from(flags) << 52
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gdt_is_the_well_known_flat_model() {
        assert_eq!(gdt(Entry::Long(0)), [0, 0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff, 0x0000_8b00_0000_0067]);
        assert_eq!(gdt(Entry::Pvh(0))[2], 0x00cf_9b00_0000_ffff);
    }

    #[test]
    fn pvh_entry_has_paging_off_and_start_info_in_rbx() {
        let mut sregs = kvm_sregs::default();
        fill_sregs(&mut sregs, Entry::Pvh(0x100_0000));
        assert_eq!((sregs.cr0 & CR0_PG, sregs.cr0 & CR0_PE, sregs.efer), (0, 1, 0));
        assert_eq!(general(Entry::Pvh(0x100_0000)).rbx, layout::PVH_INFO);
    }
}
