// SPDX-License-Identifier: Apache-2.0
//! Every guest-physical address that has a meaning, and the split of RAM around the hole.
//!
//! ```text
//!          0 +---------------------------+
//!            | low RAM: boot structures  |  GDT, PVH start info, zero page, page tables,
//!    0x9fc00 +---------------------------+  command line
//!            | reserved (EBDA, ROM area) |
//!    0xe0000 | ACPI tables               |
//!    0xff000 | reserved: reset vector    |
//!   1 MiB    +---------------------------+
//!            | RAM: kernel ... initrd    |
//!   ≤ 3 GiB  +---------------------------+ HOLE_START
//!            | boot timer                |
//! 0xd000_0000 | virtio devices, 4K each   |
//!            | IOAPIC, LAPIC,            |
//!            | KVM's own pages           |
//!   4 GiB    +---------------------------+ HIGH_RAM
//!            | RAM above 3 GiB           |
//!            +---------------------------+
//! ```

/// Granularity of guest RAM in bytes: every slot starts and ends on it, so that host address,
/// guest address and file offset agree modulo 2 MiB and stage 2 can use PMD leaves.
pub const RAM_ALIGN: u64 = secretmem::PMD_SIZE;
/// The smallest guest, in bytes.
pub const RAM_MIN: u64 = 32 << 20;

/// Boot GDT (64-bit and PVH entry).
pub const BOOT_GDT: u64 = 0x500;
/// PVH start info, followed by its module list and memory map (one page).
pub const PVH_INFO: u64 = 0x6000;
/// The zero page (`struct boot_params`) of the 64-bit boot protocol.
pub const ZERO_PAGE: u64 = 0x7000;
/// Where in the zero page the kernel's setup header is, in bytes from its start.
pub const SETUP_HEADER: u64 = 0x1f1;
/// Boot page tables: PML4, PDPT, then four page directories that map the first 4 GiB.
pub const BOOT_PML4: u64 = 0x9000;
/// The PDPT of the boot page tables.
pub const BOOT_PDPT: u64 = 0xa000;
/// The first of four page directories of the boot page tables.
pub const BOOT_PD: u64 = 0xb000;
/// The kernel command line.
pub const CMDLINE: u64 = 0x2_0000;
/// The most bytes a command line may have, its NUL included (x86's COMMAND_LINE_SIZE).
pub const CMDLINE_MAX: usize = 2048;
/// End of conventional memory: from here to 1 MiB nothing is RAM for the guest.
pub const LOW_RAM_END: u64 = 0x9_fc00;
/// RSDP first, the other ACPI tables behind it.
pub const ACPI_START: u64 = 0xe_0000;
/// End of the room for ACPI tables.
pub const ACPI_END: u64 = 0xf_f000;
/// Where a BIOS has its reset vector (f000:fff0).
pub const RESET_VECTOR: u64 = 0xf_fff0;
/// Start of extended memory; no kernel is loaded below.
pub const HIMEM: u64 = 0x10_0000;

/// Where RAM stops below 4 GiB and the devices' addresses begin.
pub const HOLE_START: u64 = 3 << 30;
/// The registers of the first virtio device; those of each further one lie a page behind.
pub const VIRTIO_MMIO: u64 = 0xd000_0000;
/// What a virtio device takes, in bytes.
pub const VIRTIO_MMIO_SIZE: u64 = 0x1000;
/// The interrupt of the first virtio device.
pub const VIRTIO_GSI: u32 = 5;
/// The most virtio devices: the I/O APIC's pins 5 to 23, one each.
pub const VIRTIO_MAX: usize = 19;
/// The I/O APIC's registers.
pub const IOAPIC: u32 = 0xfec0_0000;
/// Every vCPU's local APIC registers.
pub const LAPIC: u32 = 0xfee0_0000;
/// One page for KVM's identity map (Intel without unrestricted guest).
pub const KVM_IDENTITY_MAP: u64 = 0xfffb_c000;
/// Three pages for KVM's task state segment (Intel).
pub const KVM_TSS: u64 = 0xfffb_d000;
/// Where RAM goes on above the hole.
pub const HIGH_RAM: u64 = 4 << 30;

/// Firecracker's boot timer, one byte.
pub const BOOT_TIMER: u64 = HOLE_START;
/// The keyboard's interrupt.
pub const KEYBOARD_GSI: u32 = 1;
/// The power button's interrupt.
pub const POWER_BUTTON_GSI: u32 = 3;
/// COM1, eight ports.
pub const COM1_PORT: u16 = 0x3f8;
/// COM1's interrupt.
pub const COM1_GSI: u32 = 4;
/// The keyboard controller.
pub const I8042_PORT: u16 = 0x60;
/// pvpanic's one port, see QEMU's docs/specs/pvpanic.
pub const PVPANIC_PORT: u16 = 0x505;
/// ACPI sleep control, sleep status and reset registers, one byte each.
pub const ACPI_PM_PORT: u16 = 0x600;

/// One piece of guest RAM: a memslot, a region and a mapping alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// Guest-physical address of the first byte.
    pub gpa: u64,
    /// Length in bytes.
    pub size: u64,
    /// Offset of the first byte in the backing file.
    pub offset: u64,
}

/// Where a virtio device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VirtioSlot {
    /// Guest-physical address of its registers, [`VIRTIO_MMIO_SIZE`] bytes.
    pub address: u64,
    /// Its interrupt.
    pub gsi: u32,
}

/// The places for virtio devices, in the order in which a guest finds them.
pub fn virtio_slots() -> impl Iterator<Item = VirtioSlot> {
    let addresses = (VIRTIO_MMIO..).step_by(VIRTIO_MMIO_SIZE as usize);
    addresses.zip(VIRTIO_GSI..).map(|(address, gsi)| VirtioSlot { address, gsi }).take(VIRTIO_MAX)
}

/// Splits `size` bytes of RAM, a multiple of 2 MiB, around the hole.
pub fn slots(size: u64) -> Vec<Slot> {
    let low = size.min(HOLE_START);
    let mut slots = vec![Slot { gpa: 0, size: low, offset: 0 }];
    if size > low {
        slots.push(Slot { gpa: HIGH_RAM, size: size - low, offset: low });
    }
    slots
}

/// What a range of guest-physical addresses is, in the numbers that E820 and PVH share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum RangeKind {
    /// Usable RAM.
    Ram = 1,
    /// Not usable, not RAM.
    Reserved = 2,
    /// ACPI tables, usable once they are parsed.
    Acpi = 3,
}

/// The memory map that the guest is told: `(start, length, kind)` in ascending order.
pub fn memory_map(size: u64) -> Vec<(u64, u64, RangeKind)> {
    let mut map = vec![
        (0, LOW_RAM_END, RangeKind::Ram),
        (LOW_RAM_END, ACPI_START - LOW_RAM_END, RangeKind::Reserved),
        (ACPI_START, ACPI_END - ACPI_START, RangeKind::Acpi),
        (ACPI_END, HIMEM - ACPI_END, RangeKind::Reserved),
    ];
    for slot in slots(size) {
        let start = slot.gpa.max(HIMEM);
        map.push((start, slot.gpa + slot.size - start, RangeKind::Ram));
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_small_ram_is_one_piece() {
        assert_eq!(slots(32 << 20), [Slot { gpa: 0, size: 32 << 20, offset: 0 }]);
        assert_eq!(slots(HOLE_START).len(), 1);
    }

    #[test]
    fn slots_large_ram_goes_on_at_4g_and_stays_congruent() {
        let slots = slots(5 << 30);
        assert_eq!(slots[1], Slot { gpa: 4 << 30, size: 2 << 30, offset: 3 << 30 });
        for slot in slots {
            assert_eq!((slot.gpa % RAM_ALIGN, slot.size % RAM_ALIGN, slot.offset % RAM_ALIGN), (0, 0, 0));
        }
    }

    #[test]
    fn virtio_slots_end_at_the_io_apics_last_pin() {
        let slots: Vec<_> = virtio_slots().collect();
        assert_eq!(slots[0], VirtioSlot { address: 0xd000_0000, gsi: 5 });
        assert_eq!(slots[VIRTIO_MAX - 1], VirtioSlot { address: 0xd001_2000, gsi: 23 });
    }

    #[test]
    fn memory_map_is_sorted_without_overlap_and_counts_all_ram() {
        for size in [RAM_MIN, HOLE_START, HOLE_START + RAM_ALIGN, 64 << 30] {
            let map = memory_map(size);
            assert!(map.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0), "{map:x?}");
            let ram: u64 = map.iter().filter(|entry| entry.2 == RangeKind::Ram).map(|entry| entry.1).sum();
            assert_eq!(ram, size - (HIMEM - LOW_RAM_END));
        }
    }
}
