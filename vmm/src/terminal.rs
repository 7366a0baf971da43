// SPDX-License-Identifier: Apache-2.0
//! Raw mode of the terminal on standard input, undone on every way out.
//!
//! The guest's own terminal driver does echo, line editing and signals, so the host's must not.
//! Output processing stays on: the VMM's messages keep their line ends.
#![allow(unsafe_code)] // tcgetattr and tcsetattr, also from signal handlers.

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

const STDIN: i32 = 0;

static SAVED: OnceLock<libc::termios> = OnceLock::new();
static RAW: AtomicBool = AtomicBool::new(false);

/// Keeps the terminal raw while it lives.
#[derive(Debug)]
pub struct RawMode(());

impl RawMode {
    /// Switches to raw mode if standard input is a terminal; does nothing if not.
    pub fn enter() -> io::Result<Self> {
        if let Some(saved) = current()? {
            SAVED.get_or_init(|| saved);
            make_raw()?;
        }
        Ok(Self(()))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        restore();
    }
}

/// Gives the terminal its old settings back. Async-signal-safe, and harmless at any time.
pub fn restore() {
    if !RAW.swap(false, Ordering::SeqCst) {
        return;
    }
    if let Some(saved) = SAVED.get() {
        // SAFETY: the kernel only reads the structure.
        unsafe { libc::tcsetattr(STDIN, libc::TCSANOW, saved) };
    }
}

/// Makes the terminal raw again after [`restore`], if it ever was.
pub fn make_raw() -> io::Result<()> {
    let Some(saved) = SAVED.get() else { return Ok(()) };
    let mut raw = *saved;
    raw.c_iflag &= !(libc::BRKINT | libc::ICRNL | libc::INLCR | libc::IGNCR | libc::ISTRIP | libc::IXON);
    raw.c_lflag &= !(libc::ECHO | libc::ECHONL | libc::ICANON | libc::IEXTEN | libc::ISIG);
    raw.c_cc[libc::VMIN] = 1;
    raw.c_cc[libc::VTIME] = 0;
    RAW.store(true, Ordering::SeqCst);
    // SAFETY: the kernel only reads the structure.
    if unsafe { libc::tcsetattr(STDIN, libc::TCSANOW, &raw) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// The terminal's settings; None if standard input is no terminal.
fn current() -> io::Result<Option<libc::termios>> {
    // SAFETY: an all-zero termios is a valid value of plain integers.
    let mut termios = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel fills the structure we own.
    if unsafe { libc::tcgetattr(STDIN, &mut termios) } == 0 {
        return Ok(Some(termios));
    }
    match io::Error::last_os_error() {
        err if matches!(err.raw_os_error(), Some(libc::ENOTTY | libc::EINVAL | libc::EBADF)) => Ok(None),
        err => Err(err),
    }
}
