// SPDX-License-Identifier: Apache-2.0
//! What came of an attack, and what must not.

use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::watch::Answer;
use crate::{Attack, Sink};

/// The end after SIGTERM.
pub(crate) const END_LIMIT: Duration = Duration::from_secs(10);
/// By how much the VMM's own memory may differ once everything has been there once, in KiB.
const GROWTH_LIMIT: u64 = 512;
/// Lines of the log in a second, and those of any VMM.
const LINES_A_SECOND: u64 = 200;
const LINES: u64 = 50;
/// Messages in a second that everybody on the host gets.
const CHANGES_A_SECOND: u64 = 10;

/// The figures of one attack.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Accesses to devices and rings filled, as the guest has counted; 0 when its console could not be read.
    pub operations: u64,
    /// Requests of neighbours.
    pub requests: u64,
    /// How long it took, without start and end.
    pub time: Duration,
    /// The longest `GET /`, as a client sees it.
    pub longest: Duration,
    /// The longest `GET /` without what other processes took.
    pub longest_own: Duration,
    /// The VMM's own memory in KiB, five times a second.
    pub memory: Vec<u64>,
    /// Lines and bytes that the VMM said.
    pub said: (u64, u64),
    /// Messages of the kernel to all about the network device.
    pub changes: u64,
    /// How long the end took after SIGTERM.
    pub ending: Duration,
    /// How it ended; None: it did not.
    pub status: Option<ExitStatus>,
    /// Begin and end of what the VMM said.
    pub messages: String,
    pub(crate) unanswered: Option<String>,
}

impl Outcome {
    pub(crate) fn note(&mut self, answer: Answer) {
        self.longest = self.longest.max(answer.wall);
        self.longest_own = self.longest_own.max(answer.own);
    }

    /// By how much the VMM has grown since everything had been there once: the most ever above the most in the first
    /// third of the time, in KiB.
    pub fn growth(&self) -> u64 {
        let most = |part: &[u64]| part.iter().max().copied().unwrap_or(0);
        most(&self.memory) - most(&self.memory[..self.memory.len().div_ceil(3)])
    }

    /// Whether the VMM was what it has to be.
    ///
    /// # Errors
    /// It panicked, made a forbidden system call, kept a client waiting, grew, talked too much, or did not end as told.
    pub fn judge(&self, attack: &Attack) -> Result<()> {
        let messages = &self.messages;
        let Some(status) = self.status else { anyhow::bail!("SIGTERM does not end it: {messages}") };
        ensure!(!messages.contains("panicked at"), "It panicked: {messages}");
        ensure!(status.code() != Some(148), "A system call that its filters forbid: {messages}");
        let (code, signal) = (status.code(), status.signal());
        ensure!(code == Some(attack.end.code()), "Ended with code {code:?}, signal {signal:?}: {messages}");
        ensure!(self.unanswered.is_none(), "{}", self.unanswered.as_deref().unwrap_or_default());
        ensure!(self.longest_own <= attack.patience, "GET / took {:?} by the VMM's own doing", self.longest_own);
        ensure!(self.growth() <= GROWTH_LIMIT, "It grew by {} KiB: {:?}", self.growth(), self.memory);
        let seconds = self.time.as_secs() + 1;
        ensure!(self.said.0 <= LINES + LINES_A_SECOND * seconds, "{} lines of log in {seconds} s", self.said.0);
        ensure!(self.changes <= CHANGES_A_SECOND * seconds, "{} netlink messages in {seconds} s", self.changes);
        ensure!(attack.stdout != Sink::Read || self.operations > 0, "The guest has done nothing: {messages}");
        Ok(())
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { operations, requests, time, longest, longest_own, said, changes, ending, .. } = self;
        let range = (self.memory.iter().min().unwrap_or(&0), self.memory.iter().max().unwrap_or(&0));
        write!(f, "{operations} operations, {requests} requests in {time:.1?}; GET / at most {longest:.1?} ")?;
        write!(
            f,
            "({longest_own:.1?} of its own); memory {}..{} KiB, growth {} KiB; ",
            range.0,
            range.1,
            self.growth()
        )?;
        write!(f, "{} lines, {} bytes of log; {changes} netlink messages; end after {ending:.1?}", said.0, said.1)
    }
}
