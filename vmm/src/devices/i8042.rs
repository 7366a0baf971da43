//! The keyboard controller's reset line, which `reboot=k` pulls.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use vm_superio::{I8042Device, Trigger};

use crate::bus::PortDevice;
use crate::control::{Control, Outcome};

struct ResetLine(Arc<Control>);

impl Trigger for ResetLine {
    type E = Infallible;

    fn trigger(&self) -> Result<(), Infallible> {
        self.0.finish(Outcome::Reset);
        Ok(())
    }
}

/// An i8042 without keyboard or mouse.
pub struct I8042 {
    device: Mutex<I8042Device<ResetLine>>,
}

impl I8042 {
    /// Registers from port 0x60 to 0x64.
    pub const PORTS: u16 = 5;

    /// A device that ends the VM through `control`.
    pub fn new(control: Arc<Control>) -> Self {
        Self { device: Mutex::new(I8042Device::new(ResetLine(control))) }
    }
}

impl PortDevice for I8042 {
    fn read(&self, offset: u16) -> u8 {
        self.device.lock().unwrap_or_else(PoisonError::into_inner).read(offset as u8)
    }

    fn write(&self, offset: u16, value: u8) {
        let Ok(()) = self.device.lock().unwrap_or_else(PoisonError::into_inner).write(offset as u8, value);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn reset_command_resets_and_others_do_not() {
        let control = Control::new().unwrap();
        let i8042 = I8042::new(control.clone());
        i8042.write(0, 0xfe);
        i8042.write(4, 0xd1);
        assert_eq!(control.outcome(), None);
        i8042.write(4, 0xfe);
        assert_eq!(control.outcome(), Some(Outcome::Reset));
    }
}
