// SPDX-License-Identifier: Apache-2.0
//! Sixteen bytes in the place of a BIOS.
//!
//! Linux on hardware-reduced ACPI and without EFI does not use the reset register by itself: it
//! tries EFI, then jumps to the BIOS's reset vector f000:fff0 in real mode. This is what it finds.

use vm_memory::{Bytes, GuestAddress};

use super::Error;
use crate::devices::acpi_pm;
use crate::layout;
use crate::memory::GuestMemory;

/// Writes the code, which pulls the reset register and then halts for good.
pub fn write(memory: &GuestMemory) -> Result<(), Error> {
    Ok(memory.write_slice(&code(), GuestAddress(layout::RESET_VECTOR))?)
}

#[rustfmt::skip]
fn code() -> [u8; 9] {
    let [port_low, port_high] = (layout::ACPI_PM_PORT + acpi_pm::RESET).to_le_bytes();
    [
        0xb0, acpi_pm::RESET_VALUE, // mov al, RESET_VALUE
        0xba, port_low, port_high,  // mov dx, port
        0xee,                       // out dx, al
        0xf4,                       // hlt
        0xeb, 0xfd,                 // jmp to hlt
    ]
}
