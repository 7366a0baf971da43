// SPDX-License-Identifier: Apache-2.0
//! The registers of hardware-reduced ACPI: sleep control, sleep status, reset
//! (ACPI 6.5, 4.8.3.7 and 4.8.3.6).

use std::sync::Arc;

use crate::bus::PortDevice;
use crate::control::Control;
use crate::outcome::Outcome;

/// Offset of the sleep control register.
pub const SLEEP_CONTROL: u16 = 0;
/// Offset of the sleep status register.
pub const SLEEP_STATUS: u16 = 1;
/// Offset of the reset register.
pub const RESET: u16 = 2;
/// Number of registers.
pub const PORTS: u16 = 3;
/// What the reset register waits for.
pub const RESET_VALUE: u8 = 1;
/// SLP_TYP of soft-off, as \_S5 says it.
pub const SLEEP_TYPE_S5: u8 = 5;

const SLEEP_ENABLE: u8 = 1 << 5;
const SLEEP_TYPE_SHIFT: u8 = 2;
const SLEEP_TYPE_MASK: u8 = 7;

/// Power-off and reset of the guest.
pub struct AcpiPm {
    control: Arc<Control>,
}

impl AcpiPm {
    /// A device that ends the VM through `control`.
    pub fn new(control: Arc<Control>) -> Self {
        Self { control }
    }
}

impl PortDevice for AcpiPm {
    /// All registers read as 0: no wake status, nothing enabled.
    fn read(&self, _offset: u16) -> u8 {
        0
    }

    fn write(&self, offset: u16, value: u8) {
        let sleep_type = value >> SLEEP_TYPE_SHIFT & SLEEP_TYPE_MASK;
        match offset {
            SLEEP_CONTROL if value & SLEEP_ENABLE != 0 && sleep_type == SLEEP_TYPE_S5 => {
                self.control.finish(Outcome::PowerOff);
            }
            RESET if value == RESET_VALUE => self.control.finish(Outcome::Reset),
            _ => {}
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn sleep_control_only_s5_with_enable_powers_off() {
        let control = Control::new().unwrap();
        let pm = AcpiPm::new(control.clone());
        pm.write(SLEEP_CONTROL, SLEEP_TYPE_S5 << SLEEP_TYPE_SHIFT);
        pm.write(SLEEP_CONTROL, SLEEP_ENABLE | 3 << SLEEP_TYPE_SHIFT);
        pm.write(SLEEP_STATUS, 0xff);
        pm.write(RESET, 0);
        assert_eq!(control.outcome(), None);
        pm.write(SLEEP_CONTROL, SLEEP_ENABLE | SLEEP_TYPE_S5 << SLEEP_TYPE_SHIFT);
        assert_eq!(control.outcome(), Some(Outcome::PowerOff));
    }

    #[test]
    fn reset_register_resets() {
        let control = Control::new().unwrap();
        AcpiPm::new(control.clone()).write(RESET, RESET_VALUE);
        assert_eq!(control.outcome(), Some(Outcome::Reset));
    }
}
