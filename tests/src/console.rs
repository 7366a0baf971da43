// SPDX-License-Identifier: Apache-2.0
//! Expect-like waits on a stream of bytes.

use std::io::Read;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How much of the stream an error quotes.
const QUOTE_BYTES: usize = 3000;

/// Everything a stream has said so far, and how far the waits have consumed it.
pub struct Console {
    shared: Arc<Shared>,
    cursor: usize,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    bytes: Vec<u8>,
    closed: bool,
}

impl Console {
    /// Collects `stream` in a thread of its own until it ends.
    pub fn collect(mut stream: impl Read + Send + 'static) -> Self {
        let shared = Arc::new(Shared::default());
        let writer = Arc::clone(&shared);
        thread::spawn(move || {
            let mut chunk = [0; 4096];
            loop {
                let read = stream.read(&mut chunk).unwrap_or(0);
                let mut state = writer.lock();
                state.bytes.extend_from_slice(&chunk[..read]);
                state.closed = read == 0;
                writer.changed.notify_all();
                if read == 0 {
                    return;
                }
            }
        });
        Console { shared, cursor: 0 }
    }

    /// Waits until `text` comes after what earlier waits consumed; returns everything up to and including it.
    ///
    /// # Errors
    /// The time is up or the stream ended; the error quotes the stream's end.
    pub fn expect(&mut self, text: &str, limit: Duration) -> Result<String> {
        let deadline = Instant::now() + limit;
        let mut state = self.shared.lock();
        loop {
            let fresh = &state.bytes[self.cursor..];
            if let Some(at) = find(fresh, text.as_bytes()) {
                let consumed = at + text.len();
                let said = String::from_utf8_lossy(&fresh[..consumed]).into_owned();
                self.cursor += consumed;
                return Ok(said);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if state.closed || left.is_zero() {
                let reason = if state.closed { "the stream ended" } else { "the time was up" };
                bail!("{reason} before {text:?} came ({limit:?} allowed); the last it said:\n{}", quote(&state.bytes));
            }
            state = self.shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits for `prefix` and returns the rest of its line, trimmed.
    ///
    /// # Errors
    /// As [`Console::expect`].
    pub fn expect_line(&mut self, prefix: &str, limit: Duration) -> Result<String> {
        self.expect(prefix, limit)?;
        Ok(self.expect("\n", limit)?.trim().to_owned())
    }

    /// All that was said so far, consumed or not.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.shared.lock().bytes).into_owned()
    }

    /// Waits for the stream's end and returns all that was said.
    pub fn text_to_end(&self, limit: Duration) -> String {
        let state = self.shared.lock();
        let waited = self.shared.changed.wait_timeout_while(state, limit, |state| !state.closed);
        String::from_utf8_lossy(&waited.unwrap_or_else(PoisonError::into_inner).0.bytes).into_owned()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

fn quote(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(QUOTE_BYTES)..]).into_owned()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_secs(5);

    #[test]
    fn expect_two_texts_consumes_in_order() {
        let mut console = Console::collect(&b"boot ok\n/ # ls\n/ # "[..]);
        assert_eq!(console.expect("/ # ", SHORT).unwrap(), "boot ok\n/ # ");
        assert_eq!(console.expect("/ # ", SHORT).unwrap(), "ls\n/ # ");
    }

    #[test]
    fn expect_text_that_never_comes_quotes_the_stream() {
        let mut console = Console::collect(&b"Kernel panic"[..]);
        let error = console.expect("login:", SHORT).unwrap_err().to_string();
        assert!(error.contains("stream ended") && error.contains("Kernel panic"), "{error}");
    }

    #[test]
    fn expect_line_returns_the_rest_of_the_line() {
        let mut console = Console::collect(&b"x canary: a=1 b=2\r\nrest"[..]);
        assert_eq!(console.expect_line("canary:", SHORT).unwrap(), "a=1 b=2");
    }
}
