// SPDX-License-Identifier: Apache-2.0
//! The devices of a guest. Each gets what it needs and no word of what guest memory is made of.

use std::sync::Arc;

pub mod acpi_pm;
mod boot_timer;
mod console;
mod i8042;
mod power_button;
mod pvpanic;
mod rate_limiter;
mod serial;
pub mod virtio;

pub use acpi_pm::AcpiPm;
pub use boot_timer::BootTimer;
pub use console::ConsoleInput;
pub use i8042::{I8042, KeyboardOff};
pub use power_button::PowerButton;
pub use pvpanic::Pvpanic;
pub use rate_limiter::RateLimiter;
pub use serial::SerialConsole;

/// The devices of the machine itself that somebody on the host acts on.
pub struct Platform {
    /// The serial console.
    pub console: Arc<SerialConsole>,
    /// The keyboard.
    pub keyboard: Arc<I8042>,
    /// The power button.
    pub power_button: PowerButton,
}
