// SPDX-License-Identifier: Apache-2.0
//! Children that end when xtask ends, in whatever way.
#![allow(unsafe_code)] // Command::pre_exec has no safe form.

use std::io;
use std::os::unix::process::{CommandExt, parent_id};
use std::process::{self, Command};

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;

/// Sends `signal` to the command when the thread that starts it ends.
pub(crate) fn end_with_parent(command: &mut Command, signal: Signal) {
    let parent = process::id();
    // SAFETY: between fork and exec only async-signal-safe calls are made:
    // prctl and getppid.
    unsafe {
        command.pre_exec(move || {
            set_pdeathsig(signal)?;
            // The parent may have ended before the call.
            if parent_id() != parent {
                return Err(io::Error::from(io::ErrorKind::BrokenPipe));
            }
            Ok(())
        });
    }
}
