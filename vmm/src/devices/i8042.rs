// SPDX-License-Identifier: Apache-2.0
//! The keyboard controller: a reset line, and a keyboard that only ever types Ctrl-Alt-Del.
//!
//! Commands and answers are those of the PC/AT controller and of a keyboard in scan code set 2
//! without translation, as far as Linux's drivers (drivers/input/serio/i8042.c,
//! drivers/input/keyboard/atkbd.c) use them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vmm_sys_util::eventfd::EventFd;

use crate::bus::PortDevice;
use crate::control::Control;
use crate::outcome::Outcome;

/// Offsets from port 0x60.
const DATA: u16 = 0;
const COMMAND: u16 = 4;
/// Status: there is something to read; the last write was a command; the keyboard is not locked.
const STATUS_OUTPUT_FULL: u8 = 1 << 0;
const STATUS_COMMAND: u8 = 1 << 3;
const STATUS_UNLOCKED: u8 = 1 << 4;
/// Configuration byte: interrupt for keyboard bytes; keyboard's clock off.
const CONFIG_INTERRUPT: u8 = 1 << 0;
const CONFIG_SYSTEM: u8 = 1 << 2;
const CONFIG_KEYBOARD_OFF: u8 = 1 << 4;
const CONFIG_MOUSE_OFF: u8 = 1 << 5;
/// Answers of a keyboard.
const ACK: u8 = 0xfa;
const SELF_TEST_PASSED: u8 = 0xaa;
/// Left Ctrl, left Alt and Delete: down, then up in the other order.
const CTRL_ALT_DEL: [u8; 11] = [0x14, 0x11, 0xe0, 0x71, 0xe0, 0xf0, 0x71, 0xf0, 0x11, 0xf0, 0x14];
/// More bytes than any driver leaves unread.
const KEPT: usize = 64;

/// The guest cannot hear its keyboard.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "The guest does not listen to its keyboard: it has no driver for it (i8042 and atkbd in Linux), or not yet; \
     press its power button instead"
)]
pub struct KeyboardOff;

/// An i8042 with a keyboard and no mouse.
pub struct I8042 {
    control: Arc<Control>,
    interrupt: EventFd,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    config: u8,
    output: VecDeque<u8>,
    expected: Expected,
    last_was_command: bool,
    /// The driver has told the keyboard to send what is typed.
    scanning: bool,
}

/// What the next byte at the data port means.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Expected {
    /// A command for the keyboard.
    #[default]
    Keyboard,
    /// The argument of a keyboard command.
    Argument(u8),
    /// The configuration byte.
    Config,
    /// The output port.
    OutputPort,
    /// A byte for a mouse, which does not exist.
    Mouse,
}

impl I8042 {
    /// Registers from port 0x60 to 0x64.
    pub const PORTS: u16 = 5;

    /// A device that ends the VM through `control` and raises `interrupt` for each key byte.
    pub fn new(control: Arc<Control>, interrupt: EventFd) -> Self {
        let config = CONFIG_SYSTEM | CONFIG_MOUSE_OFF;
        Self { control, interrupt, inner: Mutex::new(Inner { config, ..Inner::default() }) }
    }

    /// Types Ctrl-Alt-Del.
    ///
    /// # Errors
    /// [`KeyboardOff`].
    pub fn press_ctrl_alt_del(&self) -> Result<(), KeyboardOff> {
        let mut inner = self.lock();
        if inner.config & (CONFIG_INTERRUPT | CONFIG_KEYBOARD_OFF) != CONFIG_INTERRUPT || !inner.scanning {
            return Err(KeyboardOff);
        }
        CTRL_ALT_DEL.into_iter().for_each(|byte| inner.push(byte));
        self.raise(&inner);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn raise(&self, inner: &Inner) {
        if inner.config & CONFIG_INTERRUPT != 0 && !inner.output.is_empty() {
            // A full counter has an edge pending.
            let _ = self.interrupt.write(1);
        }
    }

    fn command(&self, inner: &mut Inner, command: u8) {
        inner.last_was_command = true;
        match command {
            0x20 => inner.answer(inner.config),
            0x60 => inner.expected = Expected::Config,
            0xa7 => inner.config |= CONFIG_MOUSE_OFF,
            0xa8 => inner.config &= !CONFIG_MOUSE_OFF,
            // There is no mouse: its clock line is stuck low.
            0xa9 => inner.answer(0x01),
            0xaa => inner.answer(0x55),
            0xab => inner.answer(0x00),
            0xad => inner.config |= CONFIG_KEYBOARD_OFF,
            0xae => inner.config &= !CONFIG_KEYBOARD_OFF,
            // The reset line is not pulled.
            0xd0 => inner.answer(0x03),
            0xd1 => inner.expected = Expected::OutputPort,
            0xd3 | 0xd4 => inner.expected = Expected::Mouse,
            0xfe => self.control.finish(Outcome::Reset),
            _ => {}
        }
    }

    fn data(&self, inner: &mut Inner, value: u8) {
        inner.last_was_command = false;
        match std::mem::take(&mut inner.expected) {
            Expected::Keyboard => inner.keyboard(value),
            Expected::Argument(command) => inner.argument(command, value),
            Expected::Config => inner.config = value,
            Expected::OutputPort if value & 1 == 0 => self.control.finish(Outcome::Reset),
            Expected::OutputPort => {}
            // Whoever looks for a mouse gets another byte than he sent, at once.
            Expected::Mouse => inner.answer(!value),
        }
    }
}

impl Inner {
    fn keyboard(&mut self, command: u8) {
        match command {
            0xee => self.push(0xee),
            0xed | 0xf0 | 0xf3 => {
                self.expected = Expected::Argument(command);
                self.push(ACK);
            }
            0xf2 => [ACK, 0xab, 0x83].into_iter().for_each(|byte| self.push(byte)),
            0xf4 => {
                self.scanning = true;
                self.push(ACK);
            }
            0xf5 => {
                self.scanning = false;
                self.push(ACK);
            }
            0xff => {
                self.scanning = true;
                [ACK, SELF_TEST_PASSED].into_iter().for_each(|byte| self.push(byte));
            }
            _ => self.push(ACK),
        }
    }

    fn argument(&mut self, command: u8, value: u8) {
        self.push(ACK);
        // "Which scan code set?" It has one only.
        if (command, value) == (0xf0, 0) {
            self.push(2);
        }
    }

    /// An answer of the controller itself replaces what nobody has read.
    fn answer(&mut self, value: u8) {
        self.output.clear();
        self.push(value);
    }

    fn push(&mut self, value: u8) {
        if self.output.len() < KEPT {
            self.output.push_back(value);
        }
    }

    fn status(&self) -> u8 {
        let full = if self.output.is_empty() { 0 } else { STATUS_OUTPUT_FULL };
        let command = if self.last_was_command { STATUS_COMMAND } else { 0 };
        full | command | STATUS_UNLOCKED
    }
}

impl PortDevice for I8042 {
    fn read(&self, offset: u16) -> u8 {
        let mut inner = self.lock();
        match offset {
            DATA => {
                let value = inner.output.pop_front().unwrap_or(0);
                self.raise(&inner);
                value
            }
            COMMAND => inner.status(),
            // The speaker's port among them.
            _ => 0,
        }
    }

    fn write(&self, offset: u16, value: u8) {
        let mut inner = self.lock();
        match offset {
            DATA => self.data(&mut inner, value),
            COMMAND => self.command(&mut inner, value),
            _ => return,
        }
        self.raise(&inner);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn device() -> (I8042, Arc<Control>) {
        let control = Control::new().unwrap();
        (I8042::new(control.clone(), EventFd::new(libc::EFD_NONBLOCK).unwrap()), control)
    }

    fn drain(device: &I8042) -> Vec<u8> {
        std::iter::from_fn(|| (device.read(COMMAND) & STATUS_OUTPUT_FULL != 0).then(|| device.read(DATA))).collect()
    }

    #[test]
    fn reset_command_resets_and_others_do_not() {
        let (device, control) = device();
        device.write(DATA, 0xfe);
        device.write(COMMAND, 0xd1);
        device.write(DATA, 0x03);
        assert_eq!(control.outcome(), None);
        device.write(COMMAND, 0xfe);
        assert_eq!(control.outcome(), Some(Outcome::Reset));
    }

    #[test]
    fn output_port_with_bit_0_clear_resets() {
        let (device, control) = device();
        device.write(COMMAND, 0xd1);
        device.write(DATA, 0x02);
        assert_eq!(control.outcome(), Some(Outcome::Reset));
    }

    #[test]
    fn ctrl_alt_del_reaches_a_driver_that_listens() {
        let (device, _) = device();
        assert_eq!(device.press_ctrl_alt_del(), Err(KeyboardOff));
        device.write(COMMAND, 0x60);
        device.write(DATA, CONFIG_INTERRUPT);
        assert_eq!(device.press_ctrl_alt_del(), Err(KeyboardOff));
        device.write(DATA, 0xf4);
        assert_eq!(drain(&device), [ACK]);
        device.press_ctrl_alt_del().unwrap();
        assert!(device.interrupt.read().unwrap() > 0);
        assert_eq!(drain(&device), CTRL_ALT_DEL);
    }

    #[test]
    fn keyboard_identifies_itself_and_knows_its_scan_code_set() {
        let (device, _) = device();
        device.write(DATA, 0xf2);
        assert_eq!(drain(&device), [ACK, 0xab, 0x83]);
        device.write(DATA, 0xf0);
        device.write(DATA, 0);
        assert_eq!(drain(&device), [ACK, ACK, 2]);
    }

    #[test]
    fn mouse_is_not_there_and_says_so_at_once() {
        let (device, _) = device();
        device.write(COMMAND, 0xd3);
        device.write(DATA, 0x5a);
        assert_ne!(drain(&device), [0x5a]);
        device.write(COMMAND, 0xa9);
        assert_eq!(drain(&device), [1]);
    }

    #[test]
    fn output_nobody_reads_is_bounded() {
        let (device, _) = device();
        (0..1000).for_each(|_| device.write(DATA, 0xf2));
        assert!(drain(&device).len() <= KEPT);
    }
}
