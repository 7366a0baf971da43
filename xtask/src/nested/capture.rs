// SPDX-License-Identifier: Apache-2.0
//! What a command on the nested host prints.

use std::io::{self, Write, stdout};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A command's standard output, while it is also passed on, a whole line at a
/// time: several hosts may be writing.
#[derive(Clone, Default)]
pub(crate) struct Capture(Arc<Mutex<Captured>>);

#[derive(Default)]
struct Captured {
    text: Vec<u8>,
    /// How much of it was passed on.
    passed: usize,
    /// Nothing is passed on.
    quiet: bool,
}

impl Capture {
    /// Only keeps the output, for a command that prints nothing for people.
    pub(crate) fn kept() -> Self {
        Self(Arc::new(Mutex::new(Captured { quiet: true, ..Captured::default() })))
    }

    pub(super) fn add(&self, bytes: &[u8]) -> io::Result<()> {
        let mut captured = self.lock();
        captured.text.extend(bytes);
        let lines = captured.text.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
        captured.pass_on(lines)
    }

    /// Passes on an unfinished last line too: it names what was running when
    /// the host died.
    pub(super) fn finish(&self) -> io::Result<()> {
        let mut captured = self.lock();
        if captured.text.last().is_some_and(|byte| *byte != b'\n') {
            captured.text.push(b'\n');
        }
        let all = captured.text.len();
        captured.pass_on(all)
    }

    /// What has come until now.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.lock().text).into_owned()
    }

    fn lock(&self) -> MutexGuard<'_, Captured> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Captured {
    fn pass_on(&mut self, until: usize) -> io::Result<()> {
        if until > self.passed && !self.quiet {
            stdout().write_all(&self.text[self.passed..until])?;
            self.passed = until;
        }
        Ok(())
    }
}
