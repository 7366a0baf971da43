// SPDX-License-Identifier: Apache-2.0
//! COM1: a 16550A whose line is standard output, a file or a named pipe.
//!
//! Two locks, so that output can hold up a vCPU for a moment but never the main thread: a vCPU that sends takes
//! `line`, then `uart` for the register alone, and writes with `uart` free again. The main thread takes only
//! `uart`.

mod line;
#[cfg(test)]
mod tests;
mod uart;

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use secretvmm_api::{RateLimiter as Limits, TokenBucket};
use vm_superio::serial::SerialEvents;
use vmm_sys_util::eventfd::EventFd;

use self::line::Line;
use self::uart::{DATA, Uart};
use super::RateLimiter;
use crate::bus::PortDevice;

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

/// The serial console of a guest.
pub struct SerialConsole {
    line: Mutex<Line>,
    uart: Mutex<Uart>,
    room: Arc<Room>,
}

impl SerialConsole {
    /// Number of ports.
    pub const PORTS: u16 = 8;

    /// A console that raises `interrupt` and sends to `out`. What `out` does not take is lost.
    ///
    /// # Errors
    /// The host gives no event descriptor.
    pub fn new(interrupt: EventFd, out: File) -> io::Result<Self> {
        let room = Arc::new(Room { event: EventFd::new(libc::EFD_NONBLOCK)?, wanted: AtomicBool::new(false) });
        let uart = Uart::new(interrupt, room.clone());
        Ok(Self { line: Mutex::new(Line::new(out)), uart: Mutex::new(uart), room })
    }

    /// Drops output above `limit` bytes a time.
    ///
    /// # Errors
    /// The host gives no timer.
    pub fn limit(&self, limit: TokenBucket) -> io::Result<()> {
        let limiter = RateLimiter::new(Some(&Limits { bandwidth: Some(limit), ops: None }))?;
        self.line().limit(limiter);
        Ok(())
    }

    /// Hands input to the guest and returns how many bytes it took. None at all while its driver
    /// has receive interrupts off: at start it drops what came before.
    ///
    /// If some bytes are left over, [`Self::room`] will say when to try again.
    pub fn receive(&self, input: &[u8]) -> usize {
        let taken = self.uart().receive(input);
        if taken < input.len() {
            self.room.wanted.store(true, Ordering::Relaxed);
        }
        taken
    }

    /// Readable when input that was left over can be offered again.
    pub fn room(&self) -> &EventFd {
        &self.room.event
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn uart(&self) -> MutexGuard<'_, Uart> {
        self.uart.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PortDevice for SerialConsole {
    fn read(&self, offset: u16) -> u8 {
        self.uart().read(offset)
    }

    fn write(&self, offset: u16, value: u8) {
        if offset == DATA {
            // In this order, so that bytes of several vCPUs keep theirs.
            let mut line = self.line();
            let sent = self.uart().send(value);
            return line.send(&sent);
        }
        let mut uart = self.uart();
        uart.write(offset, value);
        if uart.can_receive() {
            self.room.notify();
        }
    }
}
