// SPDX-License-Identifier: Apache-2.0
//! The ACPI power button: an event of the Generic Event Device (ACPI 6.5, 5.6.9) in the DSDT.

use vmm_sys_util::eventfd::EventFd;

/// The button, as the host presses it.
pub struct PowerButton(EventFd);

impl PowerButton {
    /// Pressed by an edge on `interrupt`, which is [`crate::layout::POWER_BUTTON_GSI`].
    pub fn new(interrupt: EventFd) -> Self {
        Self(interrupt)
    }

    /// Asks the guest to shut down. A guest without a driver for buttons does not notice.
    pub fn press(&self) {
        // A full counter has an edge pending.
        let _ = self.0.write(1);
    }
}
