// SPDX-License-Identifier: Apache-2.0
//! ACPI tables: hardware-reduced, so that no PIT, SCI, PM timer or CMOS needs to exist.
//!
//! ```text
//! RSDP → XSDT → FADT → DSDT (COM1, keyboard, power button, pvpanic, virtio devices, \_S5)
//!             → MADT (one local APIC a vCPU, one I/O APIC)
//! ```
//!
//! Sleep control, sleep status and reset are byte registers of [`crate::devices::AcpiPm`].

use acpi_tables::fadt::{FADTBuilder, Flags, PmProfile};
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};
use acpi_tables::madt::{EnabledStatus, IoApic, LocalInterruptController, MADT, ProcessorLocalApic};
use acpi_tables::rsdp::Rsdp;
use acpi_tables::sdt::Sdt;
use acpi_tables::xsdt::XSDT;
use acpi_tables::{Aml, aml};
use vm_memory::{Bytes, GuestAddress};

use super::Error;
use crate::devices::acpi_pm;
use crate::layout;
use crate::layout::VirtioSlot;
use crate::memory::GuestMemory;

const OEM: [u8; 6] = *b"SECVMM";
const TABLE: [u8; 8] = *b"SECRETVM";
const REVISION: u32 = 1;

/// IAPC_BOOT_ARCH (ACPI 6.5, 5.2.9.3): an i8042, no VGA to probe, no CMOS clock.
const BOOT_ARCH: u16 = 1 << 1 | 1 << 2 | 1 << 5;

/// Writes all tables for `cpus` vCPUs and virtio devices at `slots`; the RSDP lies at
/// [`layout::ACPI_START`].
pub fn write_tables(memory: &GuestMemory, cpus: u8, slots: &[VirtioSlot]) -> Result<(), Error> {
    let tables = tables(layout::ACPI_START, cpus, slots);
    if tables.len() as u64 > layout::ACPI_END - layout::ACPI_START {
        return Err(Error::AcpiTooLarge(tables.len()));
    }
    Ok(memory.write_slice(&tables, GuestAddress(layout::ACPI_START))?)
}

/// The tables one behind the other, RSDP first, for a place that starts at `base`.
fn tables(base: u64, cpus: u8, slots: &[VirtioSlot]) -> Vec<u8> {
    let mut bytes = vec![0; Rsdp::len().next_multiple_of(16)];
    let mut append = |table: &dyn Aml| {
        let address = base + bytes.len() as u64;
        table.to_aml_bytes(&mut bytes);
        bytes.resize(bytes.len().next_multiple_of(16), 0);
        address
    };
    let dsdt = append(&dsdt(slots));
    let fadt = append(&fadt(dsdt));
    let madt = append(&madt(cpus));
    let mut xsdt = XSDT::new(OEM, TABLE, REVISION);
    xsdt.add_entry(fadt);
    xsdt.add_entry(madt);
    let xsdt = append(&xsdt);
    let mut rsdp = Vec::new();
    Rsdp::new(OEM, xsdt).to_aml_bytes(&mut rsdp);
    for (target, byte) in bytes.iter_mut().zip(rsdp) {
        *target = byte;
    }
    bytes
}

fn fadt(dsdt: u64) -> impl Aml {
    let register = |port| GAS::new(AddressSpace::SystemIo, 8, 0, AccessSize::ByteAccess, u64::from(port));
    let mut fadt = FADTBuilder::new(OEM, TABLE, REVISION)
        .dsdt_64(dsdt)
        .preferred_pm_profile(PmProfile::EnterpriseServer)
        .flag(Flags::HwReducedAcpi)
        .flag(Flags::ResetRegSup)
        .flag(Flags::Headless)
        // Fixed power and sleep buttons do not exist.
        .flag(Flags::PwrButton)
        .flag(Flags::SlpButton);
    fadt.iapc_boot_arch = BOOT_ARCH.into();
    fadt.sleep_control_reg = register(layout::ACPI_PM_PORT + acpi_pm::SLEEP_CONTROL);
    fadt.sleep_status_reg = register(layout::ACPI_PM_PORT + acpi_pm::SLEEP_STATUS);
    fadt.reset_reg = register(layout::ACPI_PM_PORT + acpi_pm::RESET);
    fadt.reset_value = acpi_pm::RESET_VALUE;
    fadt.finalize()
}

fn madt(cpus: u8) -> MADT {
    let mut madt = MADT::new(OEM, TABLE, REVISION, LocalInterruptController::Address(layout::LAPIC));
    for id in 0..cpus {
        madt.add_structure(ProcessorLocalApic::new(id, id, EnabledStatus::Enabled));
    }
    madt.add_structure(IoApic::new(0, layout::IOAPIC, 0));
    madt
}

fn dsdt(slots: &[VirtioSlot]) -> Sdt {
    let mut body = Vec::new();
    com1(&mut body);
    keyboard(&mut body);
    power_button(&mut body);
    pvpanic(&mut body);
    for (index, slot) in slots.iter().enumerate() {
        virtio(&mut body, index, *slot);
    }
    let (s5, zero) = (acpi_pm::SLEEP_TYPE_S5, aml::ZERO);
    aml::Name::new("_S5_".into(), &aml::Package::new(vec![&s5, &zero, &zero, &zero])).to_aml_bytes(&mut body);
    let mut dsdt = Sdt::new(*b"DSDT", 36, 6, OEM, TABLE, REVISION);
    dsdt.append_slice(&body);
    dsdt
}

fn com1(body: &mut Vec<u8>) {
    let io = aml::IO::new(layout::COM1_PORT, layout::COM1_PORT, 1, 8);
    let irq = aml::Interrupt::new(true, true, false, false, layout::COM1_GSI);
    let device: [&dyn Aml; 4] = [
        &aml::Name::new("_HID".into(), &aml::EISAName::new("PNP0501")),
        &aml::Name::new("_UID".into(), &aml::ZERO),
        &aml::Name::new("_DDN".into(), &"COM1"),
        &aml::Name::new("_CRS".into(), &aml::ResourceTemplate::new(vec![&io, &irq])),
    ];
    aml::Device::new("_SB_.COM1".into(), device.to_vec()).to_aml_bytes(body);
}

fn keyboard(body: &mut Vec<u8>) {
    let data = aml::IO::new(layout::I8042_PORT, layout::I8042_PORT, 1, 1);
    let command = aml::IO::new(layout::I8042_PORT + 4, layout::I8042_PORT + 4, 1, 1);
    let irq = aml::Interrupt::new(true, true, false, false, layout::KEYBOARD_GSI);
    let device: [&dyn Aml; 3] = [
        &aml::Name::new("_HID".into(), &aml::EISAName::new("PNP0303")),
        &aml::Name::new("_STA".into(), &0xf_u8),
        &aml::Name::new("_CRS".into(), &aml::ResourceTemplate::new(vec![&data, &command, &irq])),
    ];
    aml::Device::new("_SB_.KBD_".into(), device.to_vec()).to_aml_bytes(body);
}

/// Hardware-reduced ACPI has no fixed button: an interrupt of the Generic Event Device stands for a
/// press of the button device.
fn power_button(body: &mut Vec<u8>) {
    let hid = aml::Name::new("_HID".into(), &aml::EISAName::new("PNP0C0C"));
    aml::Device::new("_SB_.PWRB".into(), vec![&hid]).to_aml_bytes(body);
    let irq = aml::Interrupt::new(true, true, false, false, layout::POWER_BUTTON_GSI);
    let (button, pressed) = (aml::Path::new("\\_SB_.PWRB"), 0x80_u8);
    let notify = aml::Notify::new(&button, &pressed);
    let device: [&dyn Aml; 4] = [
        &aml::Name::new("_HID".into(), &"ACPI0013"),
        &aml::Name::new("_UID".into(), &aml::ZERO),
        &aml::Name::new("_CRS".into(), &aml::ResourceTemplate::new(vec![&irq])),
        &aml::Method::new("_EVT".into(), 1, true, vec![&notify]),
    ];
    aml::Device::new("_SB_.GED_".into(), device.to_vec()).to_aml_bytes(body);
}

fn pvpanic(body: &mut Vec<u8>) {
    let io = aml::IO::new(layout::PVPANIC_PORT, layout::PVPANIC_PORT, 1, 1);
    let device: [&dyn Aml; 3] = [
        &aml::Name::new("_HID".into(), &"QEMU0001"),
        &aml::Name::new("_STA".into(), &0xf_u8),
        &aml::Name::new("_CRS".into(), &aml::ResourceTemplate::new(vec![&io])),
    ];
    aml::Device::new("_SB_.PVPN".into(), device.to_vec()).to_aml_bytes(body);
}

/// A virtio device over MMIO, as Linux knows it (drivers/virtio/virtio_mmio.c, "LNRO0005").
fn virtio(body: &mut Vec<u8>, index: usize, slot: VirtioSlot) {
    // All addresses of devices lie below 4 GiB.
    let registers = aml::Memory32Fixed::new(true, slot.address as u32, layout::VIRTIO_MMIO_SIZE as u32);
    let irq = aml::Interrupt::new(true, true, false, false, slot.gsi);
    let device: [&dyn Aml; 4] = [
        &aml::Name::new("_HID".into(), &"LNRO0005"),
        &aml::Name::new("_UID".into(), &index),
        &aml::Name::new("_CCA".into(), &aml::ONE),
        &aml::Name::new("_CRS".into(), &aml::ResourceTemplate::new(vec![&registers, &irq])),
    ];
    let name = format!("_SB_.VR{index:02}");
    aml::Device::new(name.as_str().into(), device.to_vec()).to_aml_bytes(body);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn sum(bytes: &[u8]) -> u8 {
        bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
    }

    fn word(bytes: &[u8], offset: usize) -> usize {
        u32::from_le_bytes(bytes[offset..offset + 4].try_into().unwrap()) as usize
    }

    #[test]
    fn tables_chain_from_rsdp_and_every_checksum_holds() {
        let slots: Vec<_> = layout::virtio_slots().collect();
        let bytes = tables(0, 32, &slots);
        assert_eq!(&bytes[..8], b"RSD PTR ");
        assert_eq!((sum(&bytes[..20]), sum(&bytes[..36])), (0, 0));
        let xsdt = &bytes[word(&bytes, 24)..];
        let (fadt, madt) = (&bytes[word(xsdt, 36)..], &bytes[word(xsdt, 44)..]);
        let dsdt = &bytes[word(fadt, 140)..];
        for (table, name) in [(xsdt, b"XSDT"), (fadt, b"FACP"), (madt, b"APIC"), (dsdt, b"DSDT")] {
            assert_eq!(&table[..4], name);
            assert_eq!(sum(&table[..word(table, 4)]), 0, "checksum of {}", String::from_utf8_lossy(name));
        }
        assert_eq!(word(madt, 4), 44 + 32 * 8 + 12);
    }
}
