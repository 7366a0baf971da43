//! COM1: a 16550A whose line is the terminal.
//!
//! Two locks, so that a terminal that takes no output can hold up a vCPU but never the main
//! thread: a vCPU that sends takes `line`, then `uart` for the register alone, and writes to the
//! terminal with `uart` free again. The main thread takes only `uart`.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use secretvmm_api::{RateLimiter as Limits, TokenBucket};
use vm_superio::Trigger;
use vm_superio::serial::{Serial, SerialEvents};
use vmm_sys_util::eventfd::EventFd;

use super::RateLimiter;
use crate::bus::PortDevice;
use crate::control::{Command, Control};

const DATA: u16 = 0;
const IER: u16 = 1;
const LCR: u16 = 3;
const LCR_DLAB: u8 = 1 << 7;
const IER_RECEIVE: u8 = 1;
/// All interrupts on: what Linux writes while it finds out whether there is a UART at all. It
/// empties the receiver after that.
const IER_PROBE: u8 = 0xf;

/// The line to the I/O APIC, an irqfd.
struct Interrupt(EventFd);

impl Trigger for Interrupt {
    type E = io::Error;

    fn trigger(&self) -> io::Result<()> {
        self.0.write(1)
    }
}

/// Wakes the main thread when there is room for input, but only if it has asked for some in vain:
/// a driver reads its last byte and toggles IER far more often than anybody waits for it.
struct Room {
    event: EventFd,
    wanted: AtomicBool,
}

impl Room {
    fn notify(&self) {
        if self.wanted.swap(false, Ordering::Relaxed) {
            // A full counter has woken it already.
            let _ = self.event.write(1);
        }
    }
}

impl SerialEvents for Room {
    fn buffer_read(&self) {}
    fn out_byte(&self) {}
    fn tx_lost_byte(&self) {}
    fn in_buffer_empty(&self) {
        self.notify();
    }
}

struct Uart {
    registers: Serial<Interrupt, Arc<Room>, Vec<u8>>,
    divisor_latch: bool,
    /// The driver has receive interrupts on, and means it.
    receiving: bool,
}

/// What the guest's output goes to.
#[derive(Debug)]
pub enum Output {
    /// Somebody reads it, and the guest waits for him.
    Terminal(File),
    /// A file or named pipe; what it does not take at once is lost.
    File(File),
}

impl Output {
    fn file(&mut self) -> &mut File {
        match self {
            Self::Terminal(file) | Self::File(file) => file,
        }
    }
}

/// Where the guest's output goes.
struct Line {
    out: Option<Output>,
    limit: Option<RateLimiter>,
    control: Arc<Control>,
}

/// The serial console of a guest.
pub struct SerialConsole {
    line: Mutex<Line>,
    uart: Mutex<Uart>,
    room: Arc<Room>,
}

impl SerialConsole {
    /// Number of ports.
    pub const PORTS: u16 = 8;

    /// A console that raises `interrupt` and sends to `out`; blocked output is given up when
    /// `control` says stop.
    pub fn new(interrupt: EventFd, out: Output, control: Arc<Control>) -> io::Result<Self> {
        let room = Arc::new(Room { event: EventFd::new(libc::EFD_NONBLOCK)?, wanted: AtomicBool::new(false) });
        let registers = Serial::with_events(Interrupt(interrupt), room.clone(), Vec::new());
        Ok(Self {
            line: Mutex::new(Line { out: Some(out), limit: None, control }),
            uart: Mutex::new(Uart { registers, divisor_latch: false, receiving: false }),
            room,
        })
    }

    /// Drops output above `limit` bytes a time.
    ///
    /// # Errors
    /// The host gives no timer.
    pub fn limit(&self, limit: TokenBucket) -> io::Result<()> {
        let limiter = RateLimiter::new(Some(&Limits { bandwidth: Some(limit), ops: None }))?;
        self.line.lock().unwrap_or_else(PoisonError::into_inner).limit = Some(limiter);
        Ok(())
    }

    /// Hands input to the guest and returns how many bytes it took. None at all while its driver
    /// has receive interrupts off: at start it drops what came before.
    ///
    /// If some bytes are left over, [`Self::room`] will say when to try again.
    pub fn receive(&self, input: &[u8]) -> usize {
        let mut uart = self.uart();
        let taken = if uart.receiving { uart.registers.enqueue_raw_bytes(input).unwrap_or(0) } else { 0 };
        if taken < input.len() {
            self.room.wanted.store(true, Ordering::Relaxed);
        }
        taken
    }

    /// Readable when input that was left over can be offered again.
    pub fn room(&self) -> &EventFd {
        &self.room.event
    }

    fn uart(&self) -> MutexGuard<'_, Uart> {
        self.uart.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One byte to the transmit register, and what comes out of it to the terminal.
    fn send(&self, value: u8) {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = {
            let mut uart = self.uart();
            uart.write(DATA, value);
            std::mem::take(uart.registers.writer_mut())
        };
        line.send(&sent);
    }
}

impl PortDevice for SerialConsole {
    fn read(&self, offset: u16) -> u8 {
        self.uart().registers.read(offset as u8)
    }

    fn write(&self, offset: u16, value: u8) {
        if offset == DATA {
            return self.send(value);
        }
        let mut uart = self.uart();
        uart.write(offset, value);
        if uart.can_receive() {
            self.room.notify();
        }
    }
}

impl Uart {
    fn can_receive(&self) -> bool {
        self.receiving && self.registers.fifo_capacity() > 0
    }

    fn write(&mut self, offset: u16, value: u8) {
        match offset {
            LCR => self.divisor_latch = value & LCR_DLAB != 0,
            IER if !self.divisor_latch => self.receiving = value & IER_RECEIVE != 0 && value != IER_PROBE,
            _ => {}
        }
        if let Err(err) = self.registers.write(offset as u8, value) {
            log::debug!("Serial register {offset} could not be written: {err}");
        }
    }
}

impl Line {
    /// Writes all of `bytes`, waiting for the terminal as long as the VM is to go on.
    fn send(&mut self, mut bytes: &[u8]) {
        if self.limit.as_mut().is_some_and(|limit| !limit.consume(bytes.len() as u64)) {
            return;
        }
        while let Some(out) = &mut self.out {
            if bytes.is_empty() {
                return;
            }
            match io::Write::write(out.file(), bytes) {
                Ok(0) => self.out = None,
                Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
                // The kick that stops a vCPU thread lands here, too.
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {
                    if self.control.command() == Command::Stop {
                        return;
                    }
                }
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => {
                    if matches!(out, Output::File(_)) || !self.wait_writable() {
                        return;
                    }
                }
                Err(err) => {
                    log::warn!("Guest output is dropped from here on, nobody takes it: {err}");
                    self.out = None;
                }
            }
        }
    }

    /// For a terminal that somebody else has made non-blocking. False: the VM is to stop.
    fn wait_writable(&self) -> bool {
        std::thread::sleep(std::time::Duration::from_millis(5));
        self.control.command() != Command::Stop
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::io::{Read, Seek};
    use vmm_sys_util::tempfile::TempFile;

    fn console() -> (SerialConsole, EventFd, File) {
        let interrupt = EventFd::new(libc::EFD_NONBLOCK).unwrap();
        let out = TempFile::new().unwrap().into_file();
        let console = SerialConsole::new(
            interrupt.try_clone().unwrap(),
            Output::Terminal(out.try_clone().unwrap()),
            Control::new().unwrap(),
        );
        (console.unwrap(), interrupt, out)
    }

    #[test]
    fn output_above_the_limit_is_dropped() {
        let (serial, _, mut out) = console();
        serial.limit(TokenBucket { size: 3, one_time_burst: None, refill_time: 3_600_000 }).unwrap();
        b"abcdef".iter().for_each(|byte| serial.write(DATA, *byte));
        let mut text = String::new();
        out.rewind().unwrap();
        out.read_to_string(&mut text).unwrap();
        assert_eq!(text, "abc");
    }

    #[test]
    fn sent_bytes_reach_the_line_in_order() {
        let (console, _, mut out) = console();
        for byte in b"hello" {
            console.write(DATA, *byte);
        }
        let mut text = String::new();
        out.rewind().unwrap();
        out.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
    }

    #[test]
    fn input_waits_for_the_driver_then_interrupts() {
        let (console, interrupt, _) = console();
        assert_eq!(console.receive(b"x"), 0);
        console.write(LCR, LCR_DLAB);
        console.write(IER, 1); // the divisor's high byte
        assert!(console.room().read().is_err());
        console.write(LCR, 3);
        console.write(IER, IER_PROBE);
        assert!(console.room().read().is_err());
        console.write(IER, IER_RECEIVE);
        assert!(console.room().read().is_ok());
        assert_eq!(console.receive(b"x"), 1);
        assert!(interrupt.read().is_ok());
        assert_eq!((console.read(5) & 1, console.read(DATA)), (1, b'x'));
        assert!(console.room().read().is_err(), "nobody asked");
    }

    #[test]
    fn input_beyond_the_fifo_is_left_to_the_caller() {
        let (console, _, _) = console();
        console.write(IER, IER_RECEIVE);
        assert_eq!(console.receive(&[0; 100]), 64);
        assert_eq!(console.receive(b"x"), 0);
        for _ in 0..64 {
            console.read(DATA);
        }
        assert!(console.room().read().is_ok());
    }

    #[test]
    fn any_register_access_leaves_the_device_working() {
        let (console, _, _) = console();
        for offset in 0..8 {
            for value in 0..=255 {
                console.write(offset, value);
                console.read(offset);
            }
        }
        console.write(4, 0);
        console.write(LCR, 3);
        console.write(IER, IER_RECEIVE);
        for _ in 0..64 {
            console.read(DATA);
        }
        assert_eq!(console.receive(b"x"), 1);
    }
}
