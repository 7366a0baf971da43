// SPDX-License-Identifier: Apache-2.0
//! What the kernel is handed: the zero page of the 64-bit protocol, or PVH's start info.

use linux_loader::bootparam::{boot_e820_entry, boot_params, setup_header};
use linux_loader::start_info::{hvm_memmap_table_entry, hvm_modlist_entry, hvm_start_info};
use vm_memory::{Bytes, GuestAddress};

use super::Error;
use crate::layout;
use crate::memory::GuestMemory;

/// "Undefined boot loader" in the list of boot.rst.
const LOADER_UNDEFINED: u8 = 0xff;
/// XEN_HVM_START_MAGIC_VALUE: "xEn3" with the top bit of the E set.
const PVH_MAGIC: u32 = 0x336e_c578;
/// Version 1 of the start info has the memory map.
const PVH_VERSION: u32 = 1;
const PVH_MODULES: u64 = layout::PVH_INFO + size_of::<hvm_start_info>() as u64;
const PVH_MEMORY_MAP: u64 = PVH_MODULES + size_of::<hvm_modlist_entry>() as u64;

/// What both protocols tell the kernel.
#[derive(Debug, Clone, Copy)]
pub struct BootInfo {
    /// Guest RAM in bytes.
    pub ram: u64,
    /// Guest-physical address and length of the initrd.
    pub initrd: Option<(u64, u64)>,
}

/// Writes the zero page for a bzImage whose own setup header is `header`.
pub fn write_zero_page(memory: &GuestMemory, header: &setup_header, info: &BootInfo) -> Result<(), Error> {
    let mut params = boot_params { hdr: *header, acpi_rsdp_addr: layout::ACPI_START, ..Default::default() };
    params.hdr.type_of_loader = LOADER_UNDEFINED;
    params.hdr.cmd_line_ptr = layout::CMDLINE as u32;
    if let Some((address, size)) = info.initrd {
        // The loader has put it below the hole, so both fit.
        params.hdr.ramdisk_image = address as u32;
        params.hdr.ramdisk_size = size as u32;
    }
    let map = layout::memory_map(info.ram);
    let entries = map.iter().map(|&(addr, size, kind)| boot_e820_entry { addr, size, r#type: kind as u32 });
    let mut table = [boot_e820_entry::default(); 128];
    for (slot, entry) in table.iter_mut().zip(entries) {
        *slot = entry;
    }
    params.e820_table = table;
    params.e820_entries = map.len() as u8;
    Ok(memory.write_obj(params, GuestAddress(layout::ZERO_PAGE))?)
}

/// Writes PVH's start info, module list and memory map.
pub fn write_pvh_info(memory: &GuestMemory, info: &BootInfo) -> Result<(), Error> {
    let map = layout::memory_map(info.ram);
    let mut start = hvm_start_info {
        magic: PVH_MAGIC,
        version: PVH_VERSION,
        cmdline_paddr: layout::CMDLINE,
        rsdp_paddr: layout::ACPI_START,
        memmap_paddr: PVH_MEMORY_MAP,
        memmap_entries: map.len() as u32,
        ..Default::default()
    };
    if let Some((paddr, size)) = info.initrd {
        start.nr_modules = 1;
        start.modlist_paddr = PVH_MODULES;
        let module = hvm_modlist_entry { paddr, size, ..Default::default() };
        memory.write_obj(module, GuestAddress(PVH_MODULES))?;
    }
    let mut address = PVH_MEMORY_MAP;
    for (addr, size, kind) in map {
        let entry = hvm_memmap_table_entry { addr, size, type_: kind as u32, reserved: 0 };
        memory.write_obj(entry, GuestAddress(address))?;
        address += size_of::<hvm_memmap_table_entry>() as u64;
    }
    Ok(memory.write_obj(start, GuestAddress(layout::PVH_INFO))?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::memory::{GuestRam, RamKind};

    const INFO: BootInfo = BootInfo { ram: 64 << 20, initrd: Some((0x300_0000, 0x1234)) };

    #[test]
    fn zero_page_fields_lie_where_boot_rst_says() {
        let ram = GuestRam::create(RamKind::Shared, INFO.ram).unwrap();
        write_zero_page(ram.memory(), &setup_header::default(), &INFO).unwrap();
        let word = |offset| ram.memory().read_obj::<u32>(GuestAddress(layout::ZERO_PAGE + offset)).unwrap();
        assert_eq!(word(0x218), 0x300_0000);
        assert_eq!(word(0x21c), 0x1234);
        assert_eq!(word(0x228), layout::CMDLINE as u32);
        assert_eq!(word(0x070), layout::ACPI_START as u32);
        assert_eq!(word(0x1e8) & 0xff, 5);
        assert_eq!(word(0x2d0 + 8), layout::LOW_RAM_END as u32);
    }

    #[test]
    fn pvh_info_points_at_map_and_module() {
        let ram = GuestRam::create(RamKind::Shared, INFO.ram).unwrap();
        write_pvh_info(ram.memory(), &INFO).unwrap();
        let start: hvm_start_info = ram.memory().read_obj(GuestAddress(layout::PVH_INFO)).unwrap();
        let module: hvm_modlist_entry = ram.memory().read_obj(GuestAddress(start.modlist_paddr)).unwrap();
        assert_eq!((module.paddr, module.size), (0x300_0000, 0x1234));
        let last = start.memmap_paddr + 24 * u64::from(start.memmap_entries - 1);
        let entry: hvm_memmap_table_entry = ram.memory().read_obj(GuestAddress(last)).unwrap();
        assert_eq!((entry.addr, entry.addr + entry.size, entry.type_), (layout::HIMEM, INFO.ram, 1));
    }
}
