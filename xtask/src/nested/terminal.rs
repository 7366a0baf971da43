// SPDX-License-Identifier: Apache-2.0
//! The caller's terminal in raw mode, and the signals meant for xtask.

use std::io::{Stdin, stdin};

use anyhow::{Context, Result};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::termios::{self, SetArg, Termios};

/// Raw mode on standard input, until dropped.
pub(super) struct Raw {
    stdin: Stdin,
    before: Termios,
}

impl Raw {
    pub(super) fn enter() -> Result<Self> {
        let stdin = stdin();
        let before = termios::tcgetattr(&stdin).context("Cannot read the terminal's settings")?;
        let mut raw = before.clone();
        termios::cfmakeraw(&mut raw);
        termios::tcsetattr(&stdin, SetArg::TCSADRAIN, &raw).context("Cannot put the terminal into raw mode")?;
        Ok(Self { stdin, before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone needs no restoring.
        let _ = termios::tcsetattr(&self.stdin, SetArg::TCSADRAIN, &self.before);
    }
}

/// Signals as something to ask for instead of something that happens, until
/// dropped. To be made before any thread is started.
pub(super) struct Signals {
    set: SigSet,
    queue: SignalFd,
}

impl Signals {
    pub(super) fn catch() -> Result<Self> {
        let wanted = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGWINCH];
        let set: SigSet = wanted.into_iter().collect();
        set.thread_block().context("Cannot block signals")?;
        let queue = SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
            .context("Cannot create a signal descriptor")?;
        Ok(Self { set, queue })
    }

    /// The next signal that has arrived, if any.
    pub(super) fn next(&mut self) -> Option<Signal> {
        let info = self.queue.read_signal().ok().flatten()?;
        Signal::try_from(i32::try_from(info.ssi_signo).ok()?).ok()
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        // Blocking them has worked, so this does.
        let _ = self.set.thread_unblock();
    }
}
