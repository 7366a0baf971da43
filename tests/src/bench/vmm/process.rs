// SPDX-License-Identifier: Apache-2.0
//! A VMM that is being measured.

use std::ffi::OsStr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::Bench;
use super::counters::Counters;
use crate::console::Console;

/// No step takes so long.
pub(super) const LIMIT: Duration = Duration::from_secs(300);

/// The process and what it says.
pub(super) struct Process {
    child: Child,
    pub(super) console: Console,
    messages: Console,
    /// When it was started.
    pub(super) started: Instant,
}

impl Process {
    pub(super) fn start<S: AsRef<OsStr>>(bench: &Bench, arguments: impl IntoIterator<Item = S>) -> Result<Self> {
        let mut command = Command::new(&bench.program);
        command.args(arguments);
        Self::spawn(&mut command)
    }

    /// The same, counted from its `execve` on.
    pub(super) fn start_counted<S: AsRef<OsStr>>(
        bench: &Bench,
        arguments: impl IntoIterator<Item = S>,
    ) -> Result<(Self, Counters)> {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "kill -STOP $$; exec \"$0\" \"$@\""]).arg(&bench.program).args(arguments);
        let mut process = Self::spawn(&mut command)?;
        let pid = Pid::from_raw(process.child.id().cast_signed());
        let status = waitpid(pid, Some(WaitPidFlag::WUNTRACED))?;
        ensure!(matches!(status, WaitStatus::Stopped(..)), "The shell did not stop: {status:?}");
        let counters = Counters::of(pid)?;
        process.started = Instant::now();
        kill(pid, Signal::SIGCONT)?;
        Ok((process, counters))
    }

    fn spawn(command: &mut Command) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let started = Instant::now();
        let mut child = command.spawn().with_context(|| format!("Cannot start {command:?}"))?;
        let console = Console::collect(child.stdout.take().context("No console")?);
        let messages = Console::collect(child.stderr.take().context("No messages")?);
        Ok(Process { child, console, messages, started })
    }

    /// Waits for a text on the console.
    pub(super) fn expect(&mut self, text: &str) -> Result<String> {
        let said = self.console.expect(text, LIMIT);
        said.with_context(|| format!("The VMM's own messages:\n{}", self.messages.text()))
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
