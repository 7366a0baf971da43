// SPDX-License-Identifier: Apache-2.0
//! What a VMM takes while it is attacked: its memory, the time of an answer, what it says.

use std::fs;
use std::io::{self, PipeReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

/// Who has had no answer after this has none.
const PATIENCE: Duration = Duration::from_secs(5);

/// The VMM's own memory in KiB: guest RAM is a file's and counts elsewhere.
pub(crate) fn own_memory(pid: u32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).context("The VMM is gone")?;
    let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:")).context("No RssAnon")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// How long a request took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Answer {
    /// From the request to the answer.
    pub(crate) wall: Duration,
    /// Without the time in which whoever answers, or this thread, could have run and another process did: what is left
    /// is the VMM's doing, on a busy machine, too.
    pub(crate) own: Duration,
}

/// Asks `GET /`.
pub(crate) fn ask(socket: &Path, pid: u32) -> Result<Answer> {
    let waited = waits(pid);
    let begun = Instant::now();
    let status = status(socket).with_context(|| format!("No answer to GET / after {:?}", begun.elapsed()))?;
    ensure!(status.starts_with(b"HTTP/1.1 200"), "GET / is answered with {}", String::from_utf8_lossy(&status));
    let wall = begun.elapsed();
    let waited = waits(pid).saturating_sub(waited);
    Ok(Answer { wall, own: wall.saturating_sub(waited) })
}

/// The first line of the answer to `GET /`, up to its code.
pub(crate) fn status(socket: &Path) -> io::Result<[u8; 12]> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    let mut status = [0; 12];
    stream.read_exact(&mut status)?;
    Ok(status)
}

/// How long this thread and those that answer, which are all of the VMM's but its vCPUs', were ready to run and did not
/// (Documentation/scheduler/sched-stats).
fn waits(pid: u32) -> Duration {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let threads = threads.map(|thread| thread.path()).chain(["/proc/thread-self".into()]);
    Duration::from_nanos(threads.filter_map(|thread| wait(&thread)).sum())
}

fn wait(thread: &Path) -> Option<u64> {
    let is_vcpu = fs::read_to_string(thread.join("comm")).ok()?.starts_with("vcpu");
    let text = fs::read_to_string(thread.join("schedstat")).ok()?;
    if is_vcpu { None } else { text.split(' ').nth(1)?.parse().ok() }
}

/// Reads a stream to its end in a thread, and keeps its last part.
pub(crate) struct Said {
    shared: Arc<Mutex<Text>>,
    reader: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Text {
    lines: u64,
    bytes: u64,
    tail: Vec<u8>,
    head: Vec<u8>,
}

/// How much of a stream is kept, at both ends.
const KEPT: usize = 2000;

impl Said {
    pub(crate) fn by(stream: Option<PipeReader>) -> Self {
        let shared = Arc::new(Mutex::new(Text::default()));
        let text = Arc::clone(&shared);
        let reader = stream.map(|stream| thread::spawn(move || collect(stream, &text)));
        Self { shared, reader }
    }

    /// Lines and bytes so far.
    pub(crate) fn amount(&self) -> (u64, u64) {
        let text = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        (text.lines, text.bytes)
    }

    /// The stream's begin and end.
    pub(crate) fn ends(&self) -> String {
        let text = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        format!("{}\n...{}", String::from_utf8_lossy(&text.head), String::from_utf8_lossy(&text.tail))
    }

    /// The number between the last two `@`.
    pub(crate) fn operations(&self) -> u64 {
        let text = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let tail = String::from_utf8_lossy(&text.tail);
        let mut words = tail.rsplit('@');
        words.find(|word| word.len() == 23).and_then(|word| word.parse().ok()).unwrap_or(0)
    }

    /// Waits for the stream's end.
    pub(crate) fn finish(&mut self) {
        if let Some(reader) = self.reader.take() {
            // It does not panic.
            let _ = reader.join();
        }
    }
}

fn collect(mut stream: PipeReader, text: &Mutex<Text>) {
    let mut chunk = [0; 65536];
    while let Ok(read @ 1..) = stream.read(&mut chunk) {
        let chunk = &chunk[..read];
        let mut text = text.lock().unwrap_or_else(PoisonError::into_inner);
        text.bytes += read as u64;
        text.lines += chunk.iter().filter(|byte| **byte == b'\n').count() as u64;
        let room = KEPT.saturating_sub(text.head.len()).min(read);
        text.head.extend_from_slice(&chunk[..room]);
        text.tail.extend_from_slice(chunk);
        let excess = text.tail.len().saturating_sub(KEPT);
        text.tail.drain(..excess);
    }
}
