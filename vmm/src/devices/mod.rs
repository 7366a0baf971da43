//! The devices of a guest. Each gets what it needs and no word of what guest memory is made of.

pub mod acpi_pm;
mod console;
mod i8042;
mod pvpanic;
mod serial;
pub mod virtio;

pub use acpi_pm::AcpiPm;
pub use console::ConsoleInput;
pub use i8042::I8042;
pub use pvpanic::Pvpanic;
pub use serial::SerialConsole;
