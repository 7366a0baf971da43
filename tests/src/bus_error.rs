// SPDX-License-Identifier: Apache-2.0
//! SIGBUS as an interruption: KVM sends it for a page that has failed, and by default it ends the process.
#![allow(unsafe_code)] // A signal's disposition.

use nix::errno::Errno;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// As long as this lives, SIGBUS does nothing but end a system call with EINTR.
pub struct BusErrorsInterrupt(SigAction);

impl BusErrorsInterrupt {
    /// Begins.
    ///
    /// # Errors
    /// sigaction(2)'s.
    pub fn new() -> Result<Self, Errno> {
        // Ignored, the signal would not even interrupt.
        let nothing = SigAction::new(SigHandler::Handler(nothing), SaFlags::empty(), SigSet::empty());
        // SAFETY: the handler does nothing.
        unsafe { sigaction(Signal::SIGBUS, &nothing) }.map(BusErrorsInterrupt)
    }
}

impl Drop for BusErrorsInterrupt {
    fn drop(&mut self) {
        // SAFETY: what was there before.
        let _ = unsafe { sigaction(Signal::SIGBUS, &self.0) };
    }
}

extern "C" fn nothing(_signal: libc::c_int) {}
