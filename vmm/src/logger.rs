//! Where messages go: to standard error for people, or to a file for programs.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use log::{Level, LevelFilter, Log, Metadata, Record};
use secretvmm_api::{LogLevel, Logger as Settings};

use crate::metrics::METRICS;

/// Messages in one second; the rest is dropped and counted. A guest must not fill the host's disk.
const PER_SECOND: u32 = 200;

static LOGGER: Logger = Logger {
    inner: Mutex::new(Inner { file: None, id: String::new(), show_level: false, show_origin: false, module: None }),
    second: AtomicU64::new(0),
    messages: AtomicU32::new(0),
};

/// The file's descriptor, for signal handlers, which cannot wait for the lock; negative without a file.
static DESCRIPTOR: AtomicI32 = AtomicI32::new(-1);

struct Logger {
    inner: Mutex<Inner>,
    second: AtomicU64,
    messages: AtomicU32,
}

struct Inner {
    /// Instead of standard error.
    file: Option<File>,
    id: String,
    show_level: bool,
    show_origin: bool,
    module: Option<String>,
}

/// Installs the logger, for a VM called `id`. A second call only changes the level and the name.
pub fn init(level: LevelFilter, id: &str) {
    LOGGER.inner().id = id.to_owned();
    // An error means that it is installed already.
    let _ = log::set_logger(&LOGGER);
    log::set_max_level(level);
}

/// Changes what is logged and where to; what `settings` does not say stays as it is.
///
/// # Errors
/// The file cannot be opened; nothing has changed.
pub fn configure(settings: &Settings) -> io::Result<()> {
    let file = settings.log_path.as_deref().map(open_for_lines).transpose()?;
    let mut inner = LOGGER.inner();
    if let Some(file) = &file {
        DESCRIPTOR.store(file.as_raw_fd(), Ordering::SeqCst);
    }
    inner.file = file.or(inner.file.take());
    inner.show_level = settings.show_level.unwrap_or(inner.show_level);
    inner.show_origin = settings.show_log_origin.unwrap_or(inner.show_origin);
    inner.module = settings.module.clone().or(inner.module.take());
    if let Some(level) = settings.level {
        log::set_max_level(match level {
            LogLevel::Off => LevelFilter::Off,
            LogLevel::Error => LevelFilter::Error,
            LogLevel::Warning => LevelFilter::Warn,
            LogLevel::Info => LevelFilter::Info,
            LogLevel::Debug => LevelFilter::Debug,
            LogLevel::Trace => LevelFilter::Trace,
        });
    }
    Ok(())
}

/// The log file's descriptor, if messages go to one. Async-signal-safe.
pub fn descriptor() -> Option<RawFd> {
    Some(DESCRIPTOR.load(Ordering::SeqCst)).filter(|descriptor| *descriptor >= 0)
}

/// Opens a file or named pipe for lines to be appended to; makes a file if there is none. Neither
/// opening nor writing ever waits for a reader: what a full pipe does not take is lost.
pub fn open_for_lines(path: &Path) -> io::Result<File> {
    // Also for reading: a pipe would refuse a writer as long as nobody reads.
    OpenOptions::new().read(true).append(true).create(true).mode(0o600).custom_flags(libc::O_NONBLOCK).open(path)
}

impl Logger {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is room for another message in this second.
    fn has_room(&self) -> bool {
        let second = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs());
        if self.second.swap(second, Ordering::Relaxed) != second {
            self.messages.store(0, Ordering::Relaxed);
        }
        self.messages.fetch_add(1, Ordering::Relaxed) < PER_SECOND
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata) -> bool {
        // It calls errors what a guest can cause at any rate; the devices say what matters of it.
        !metadata.target().starts_with("virtio_queue") || metadata.level() == Level::Trace
    }

    fn log(&self, record: &Record) {
        if !self.enabled(record.metadata()) {
            return;
        }
        if !self.has_room() {
            return METRICS.logger.missed_log_count.inc();
        }
        let mut inner = self.inner();
        if inner.module.as_ref().is_some_and(|module| !record.target().starts_with(module)) {
            return;
        }
        if inner.file.is_none() {
            let level = match record.level() {
                Level::Warn => "warning".to_owned(),
                level => level.as_str().to_lowercase(),
            };
            return eprintln!("secretvmm: {level}: {}", record.args());
        }
        let line = inner.line(record);
        let written = inner.file.as_mut().map(|file| file.write_all(line.as_bytes()));
        if matches!(written, Some(Err(_))) {
            METRICS.logger.missed_log_count.inc();
        }
    }

    fn flush(&self) {}
}

impl Inner {
    /// `TIME [id:thread(:LEVEL)(:file:line)] message`, as Firecracker writes it.
    fn line(&self, record: &Record) -> String {
        let thread = std::thread::current();
        let mut place = format!("{}:{}", self.id, thread.name().unwrap_or("-"));
        if self.show_level {
            place.push_str(&format!(":{}", record.level()));
        }
        if let (true, Some(file), Some(line)) = (self.show_origin, record.file(), record.line()) {
            place.push_str(&format!(":{file}:{line}"));
        }
        let time = humantime::format_rfc3339_nanos(SystemTime::now()).to_string();
        format!("{} [{place}] {}\n", time.trim_end_matches('Z'), record.args())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn line_says_what_it_is_told_to() {
        let inner = Inner { file: None, id: "vm".into(), show_level: true, show_origin: true, module: None };
        let arguments = format_args!("words");
        let record = Record::builder().args(arguments).level(Level::Warn).file(Some("f.rs")).line(Some(7)).build();
        let line = inner.line(&record);
        assert!(line.ends_with(":WARN:f.rs:7] words\n") && line.contains(" [vm:"), "{line}");
    }

    #[test]
    fn open_for_lines_takes_a_pipe_without_a_reader_and_no_folder() {
        let folder = vmm_sys_util::tempdir::TempDir::new().unwrap();
        let pipe = folder.as_path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let mut file = open_for_lines(&pipe).unwrap();
        // More than a pipe holds: refused, not waited for.
        assert_eq!(file.write_all(&[b'x'; 1 << 20]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert!(open_for_lines(folder.as_path()).is_err());
    }
}
