// SPDX-License-Identifier: Apache-2.0
//! pvpanic: the guest kernel says that it has panicked (QEMU's docs/specs/pvpanic).

use std::sync::Arc;

use crate::bus::PortDevice;
use crate::control::Control;
use crate::outcome::Outcome;

/// The guest panicked and will not handle it itself.
const PANICKED: u8 = 1;
/// The guest panicked and has a crash kernel that takes over now.
const CRASH_LOADED: u8 = 2;

/// One port: reads say which events are understood, writes report one.
pub struct Pvpanic {
    control: Arc<Control>,
}

impl Pvpanic {
    /// Number of ports.
    pub const PORTS: u16 = 1;

    /// A device that ends the VM through `control`.
    pub fn new(control: Arc<Control>) -> Self {
        Self { control }
    }
}

impl PortDevice for Pvpanic {
    fn read(&self, _offset: u16) -> u8 {
        PANICKED | CRASH_LOADED
    }

    fn write(&self, _offset: u16, value: u8) {
        if value & PANICKED != 0 {
            self.control.finish(Outcome::Panic);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn panic_ends_the_vm_and_a_loaded_crash_kernel_does_not() {
        let control = Control::new().unwrap();
        let pvpanic = Pvpanic::new(control.clone());
        assert_eq!(pvpanic.read(0), 3);
        pvpanic.write(0, CRASH_LOADED);
        assert_eq!(control.outcome(), None);
        pvpanic.write(0, PANICKED);
        assert_eq!(control.outcome(), Some(Outcome::Panic));
    }
}
