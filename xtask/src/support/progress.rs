// SPDX-License-Identifier: Apache-2.0
//! Progress of slow steps on stderr: one updating line on a terminal, a plain
//! line every so often elsewhere.

use std::io::{IsTerminal, Write, stderr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const TERMINAL_PERIOD: Duration = Duration::from_millis(200);
const PLAIN_PERIOD: Duration = Duration::from_secs(15);

/// Set when several steps go on at a time.
static IN_LINES: AtomicBool = AtomicBool::new(false);

/// From now on each step writes lines, also on a terminal: several steps go on at a time.
pub(crate) fn in_lines() {
    IN_LINES.store(true, Ordering::Relaxed);
}

/// One slow step.
pub(crate) struct Progress {
    title: String,
    start: Instant,
    shown: Instant,
    terminal: bool,
}

impl Progress {
    /// Announces the step.
    pub(crate) fn start(title: impl Into<String>) -> Self {
        let now = Instant::now();
        let terminal = stderr().is_terminal() && !IN_LINES.load(Ordering::Relaxed);
        let progress = Self { title: title.into(), start: now, shown: now, terminal };
        if !progress.terminal {
            eprintln!("{}: started", progress.title);
        }
        progress
    }

    /// Shows `detail` if enough time has gone by since the last time.
    pub(crate) fn update(&mut self, detail: &str) {
        let period = if self.terminal { TERMINAL_PERIOD } else { PLAIN_PERIOD };
        if self.shown.elapsed() < period {
            return;
        }
        self.shown = Instant::now();
        self.show(detail);
        if !self.terminal {
            eprintln!();
        }
    }

    /// Shows the step's end.
    pub(crate) fn finish(mut self, detail: &str) {
        self.show(detail);
        // Dropping it ends the line.
        self.terminal = true;
    }

    fn show(&self, detail: &str) {
        let clear = if self.terminal { "\r\x1b[K" } else { "" };
        let separator = if detail.is_empty() { "" } else { ", " };
        eprint!("{clear}{}: {detail}{separator}{}", self.title, duration(self.start.elapsed()));
        // A progress line that cannot be shown is no reason to stop.
        let _ = stderr().flush();
    }
}

impl Drop for Progress {
    /// Ends the updating line, so that an error starts on its own.
    fn drop(&mut self) {
        if self.terminal {
            eprintln!();
        }
    }
}

/// `7s`, `2m10s`, `1h02m`.
pub(crate) fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s}s"),
        (0, m, s) => format!("{m}m{s:02}s"),
        (h, m, _) => format!("{h}h{m:02}m"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duration_uses_the_two_largest_units() {
        assert_eq!(duration(Duration::from_secs(7)), "7s");
        assert_eq!(duration(Duration::from_secs(130)), "2m10s");
        assert_eq!(duration(Duration::from_secs(3_720)), "1h02m");
    }
}
