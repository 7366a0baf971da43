// SPDX-License-Identifier: Apache-2.0
//! Standard input on its way to the guest, with Ctrl-A as the escape.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::sync::Arc;

use event_manager::{EventOps, EventSet, Events, MutEventSubscriber};

use super::SerialConsole;
use crate::control::Control;
use crate::outcome::Outcome;

/// Input kept for a guest that does not read. A pipe waits beyond that; a terminal drops what is
/// typed, so that Ctrl-A x is seen however the guest is.
const KEPT: usize = 4096;
const CTRL_A: u8 = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// In the event loop.
    Watched,
    /// Taken out of the event loop until the guest reads.
    Throttled,
    /// A file or /dev/null, which epoll refuses and a read never waits for.
    Unpollable,
    /// At its end. The VM goes on.
    Closed,
}

/// Reads standard input when it has something and the guest has room.
pub struct ConsoleInput {
    input: File,
    terminal: bool,
    source: Source,
    kept: VecDeque<u8>,
    escaped: bool,
    serial: Arc<SerialConsole>,
    control: Arc<Control>,
}

impl ConsoleInput {
    /// Takes `input` (a duplicate of standard input) to `serial`; Ctrl-A x ends the VM.
    pub fn new(input: File, serial: Arc<SerialConsole>, control: Arc<Control>) -> Self {
        let terminal = input.is_terminal();
        let source = Source::Watched;
        Self { input, terminal, source, kept: VecDeque::new(), escaped: false, serial, control }
    }

    /// One read, then what it brought to the guest.
    fn read(&mut self) {
        let mut bytes = [0; 256];
        match self.input.read(&mut bytes) {
            Ok(0) => self.source = Source::Closed,
            Ok(count) => bytes.iter().take(count).for_each(|byte| self.take(*byte)),
            Err(err) if matches!(err.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {}
            Err(err) => {
                log::info!("Standard input has ended: {err}");
                self.source = Source::Closed;
            }
        }
        self.hand_on();
    }

    /// Ctrl-A x quits, Ctrl-A Ctrl-A is one Ctrl-A, Ctrl-A and anything else is both.
    fn take(&mut self, byte: u8) {
        if !std::mem::take(&mut self.escaped) {
            match byte {
                CTRL_A => self.escaped = true,
                _ => self.keep(byte),
            }
            return;
        }
        match byte {
            b'x' => self.control.finish(Outcome::Quit),
            CTRL_A => self.keep(CTRL_A),
            _ => {
                self.keep(CTRL_A);
                self.keep(byte);
            }
        }
    }

    fn keep(&mut self, byte: u8) {
        if !self.terminal || self.kept.len() < KEPT {
            self.kept.push_back(byte);
        }
    }

    fn hand_on(&mut self) {
        while !self.kept.is_empty() {
            let taken = self.serial.receive(self.kept.make_contiguous());
            self.kept.drain(..taken);
            if taken == 0 {
                return;
            }
        }
    }

    fn is_full(&self) -> bool {
        !self.terminal && self.kept.len() >= KEPT
    }

    /// Reads a file as far as there is room; it is always readable.
    fn read_unpollable(&mut self) {
        while self.source == Source::Unpollable && !self.is_full() {
            self.read();
        }
    }

    /// Puts standard input into the event loop, or takes it out.
    fn watch(&mut self, ops: &mut EventOps) {
        let events = Events::new(&self.input, EventSet::IN);
        let result = match self.source {
            Source::Watched if self.is_full() => {
                self.source = Source::Throttled;
                ops.remove(events)
            }
            Source::Throttled if !self.is_full() => {
                self.source = Source::Watched;
                ops.add(events)
            }
            _ => Ok(()),
        };
        if let Err(err) = result {
            log::warn!("Standard input cannot be watched: {err}");
        }
    }
}

impl MutEventSubscriber for ConsoleInput {
    fn init(&mut self, ops: &mut EventOps) {
        if let Err(err) = ops.add(Events::new(self.serial.room(), EventSet::IN)) {
            log::warn!("Console input cannot be watched: {err}");
        }
        if ops.add(Events::new(&self.input, EventSet::IN)).is_err() {
            self.source = Source::Unpollable;
            self.read_unpollable();
        }
    }

    fn process(&mut self, events: Events, ops: &mut EventOps) {
        if events.fd() == std::os::fd::AsRawFd::as_raw_fd(&self.input) {
            self.read();
            if self.source == Source::Closed {
                // Nothing to be done if that fails: a closed source is not read again.
                let _ = ops.remove(Events::new(&self.input, EventSet::IN));
            }
        } else {
            let _ = self.serial.room().read();
            self.hand_on();
            self.read_unpollable();
        }
        self.watch(ops);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::bus::PortDevice;
    use vmm_sys_util::eventfd::EventFd;

    fn input(text: &[u8]) -> (ConsoleInput, Arc<SerialConsole>, Arc<Control>) {
        let control = Control::new().unwrap();
        let out = File::options().write(true).open("/dev/null").unwrap();
        let serial = Arc::new(SerialConsole::new(EventFd::new(0).unwrap(), out).unwrap());
        serial.write(1, 1);
        let file = vmm_sys_util::tempfile::TempFile::new().unwrap();
        std::fs::write(file.as_path(), text).unwrap();
        let mut input = ConsoleInput::new(File::open(file.as_path()).unwrap(), serial.clone(), control.clone());
        input.source = Source::Unpollable;
        (input, serial, control)
    }

    fn drain(serial: &SerialConsole) -> Vec<u8> {
        std::iter::from_fn(|| (serial.read(5) & 1 == 1).then(|| serial.read(0))).collect()
    }

    #[test]
    fn escape_is_ctrl_a_and_doubling_sends_one() {
        let (mut input, serial, control) = input(b"a\x01\x01b\x01c");
        input.read_unpollable();
        assert_eq!(drain(&serial), b"a\x01b\x01c");
        assert_eq!((input.source, control.outcome()), (Source::Closed, None));
    }

    #[test]
    fn escape_x_quits() {
        let (mut input, _, control) = input(b"ls\n\x01x");
        input.read_unpollable();
        assert_eq!(control.outcome(), Some(Outcome::Quit));
    }

    #[test]
    fn long_input_waits_and_arrives_whole() {
        let text: Vec<u8> = (0..20_000_u32).map(|index| b'a' + (index % 26) as u8).collect();
        let (mut input, serial, _) = input(&text);
        let mut got = Vec::new();
        input.read_unpollable();
        while got.len() < text.len() {
            assert!(input.kept.len() < KEPT + 256);
            got.extend(drain(&serial));
            assert!(serial.room().read().is_ok() || input.kept.is_empty());
            input.hand_on();
            input.read_unpollable();
        }
        assert_eq!(got, text);
    }
}
