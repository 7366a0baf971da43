// SPDX-License-Identifier: Apache-2.0
//! Where messages go: to standard error for people, or to a file for programs.
//!
//! Nothing here waits: a message that nobody takes is lost and counted. Each place in the source has a budget of its own
//! ([`budget`]), so that a guest that causes one message again and again silences no other.

mod budget;

use std::io;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use error_reporter::Report;
use log::{Level, LevelFilter, Log, Metadata, Record};
use secretvmm_api::{LogLevel, Logger as Settings};

use self::budget::Budgets;
use crate::lines::Lines;
use crate::metrics::METRICS;

static LOGGER: Logger = Logger(Mutex::new(None));

/// The file's descriptor, for signal handlers, which cannot wait for the lock; negative without a file.
static DESCRIPTOR: AtomicI32 = AtomicI32::new(-1);

/// None until [`init`].
struct Logger(Mutex<Option<Inner>>);

struct Inner {
    output: Lines,
    is_file: bool,
    id: String,
    show_level: bool,
    show_origin: bool,
    module: Option<String>,
    budgets: Budgets,
    /// Messages that nobody took since the last one that somebody did.
    lost: u64,
}

impl Inner {
    fn new(id: &str) -> Self {
        Self {
            output: Lines::stderr(),
            is_file: false,
            id: id.to_owned(),
            show_level: false,
            show_origin: false,
            module: None,
            budgets: Budgets::default(),
            lost: 0,
        }
    }
}

/// Installs the logger, for a VM called `id`. A second call only changes the level and the name.
pub fn init(level: LevelFilter, id: &str) {
    LOGGER.with(|inner| id.clone_into(&mut inner.id));
    // An error means that it is installed already.
    let _ = log::set_logger(&LOGGER);
    log::set_max_level(level);
}

/// Changes what is logged and where to; what `settings` does not say stays as it is.
///
/// # Errors
/// The file cannot be opened; nothing has changed.
pub fn configure(settings: &Settings) -> io::Result<()> {
    let file = settings.log_path.as_deref().map(Lines::open).transpose()?;
    LOGGER.with(|inner| {
        if let Some(file) = file {
            DESCRIPTOR.store(file.descriptor().unwrap_or(-1), Ordering::SeqCst);
            (inner.output, inner.is_file) = (file, true);
        }
        inner.show_level = settings.show_level.unwrap_or(inner.show_level);
        inner.show_origin = settings.show_log_origin.unwrap_or(inner.show_origin);
        inner.module = settings.module.clone().or(inner.module.take());
    });
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
pub(crate) fn descriptor() -> Option<RawFd> {
    Some(DESCRIPTOR.load(Ordering::SeqCst)).filter(|descriptor| *descriptor >= 0)
}

/// Says why the program ends: on standard error whatever the level, and in the log if there is one.
pub fn say_last(text: &str) {
    let _ = Lines::stderr().write(&format!("secretvmm: {text}\n"));
    LOGGER.with(|inner| {
        if inner.is_file {
            inner.write(Level::Error, None, &text);
        }
    });
}

/// [`say_last`] for an error and its causes, on one line.
pub fn report(err: &dyn std::error::Error) {
    say_last(&format!("error: {}", Report::new(err)));
}

impl Logger {
    fn with<T>(&self, act: impl FnOnce(&mut Inner) -> T) -> T {
        let mut inner: MutexGuard<'_, _> = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        act(inner.get_or_insert_with(|| Inner::new("")))
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata) -> bool {
        // It calls errors what a guest can cause at any rate; the devices say what matters of it.
        !metadata.target().starts_with("virtio_queue") || metadata.level() == Level::Trace
    }

    fn log(&self, record: &Record) {
        if self.enabled(record.metadata()) {
            self.with(|inner| inner.log(record));
        }
    }

    fn flush(&self) {}
}

impl Inner {
    fn log(&mut self, record: &Record) {
        if self.module.as_ref().is_some_and(|module| !record.target().starts_with(module)) {
            return;
        }
        let origin = record.file().zip(record.line());
        match self.budgets.take(record, Instant::now()) {
            None => METRICS.logger.missed_log_count.inc(),
            Some(0) => self.write(record.level(), origin, record.args()),
            Some(count) => {
                let text = format_args!("{} ({count} more of this kind were left out)", record.args()).to_string();
                self.write(record.level(), origin, &text);
            }
        }
    }

    fn write(&mut self, level: Level, origin: Option<(&str, u32)>, text: &dyn std::fmt::Display) {
        if self.lost > 0 {
            let text = format!("{} messages before this one were lost, as nobody took them", self.lost);
            if self.output.write(&self.line(Level::Warn, None, &text)).is_ok() {
                self.lost = 0;
            }
        }
        if self.output.write(&self.line(level, origin, text)).is_err() {
            self.lost += 1;
            METRICS.logger.missed_log_count.inc();
        }
    }

    /// For people, or `TIME [id:thread(:LEVEL)(:file:line)] message`, as Firecracker writes it.
    fn line(&self, level: Level, origin: Option<(&str, u32)>, text: &dyn std::fmt::Display) -> String {
        if !self.is_file {
            let level = if level == Level::Warn { "warning".to_owned() } else { level.as_str().to_lowercase() };
            return format!("secretvmm: {level}: {text}\n");
        }
        let thread = std::thread::current();
        let mut place = format!("{}:{}", self.id, thread.name().unwrap_or("-"));
        if self.show_level {
            place.push_str(&format!(":{level}"));
        }
        if let (true, Some((file, line))) = (self.show_origin, origin) {
            place.push_str(&format!(":{file}:{line}"));
        }
        let time = humantime::format_rfc3339_nanos(SystemTime::now()).to_string();
        format!("{} [{place}] {text}\n", time.trim_end_matches('Z'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_says_what_it_is_told_to() {
        let inner = Inner { is_file: true, show_level: true, show_origin: true, ..Inner::new("vm") };
        let line = inner.line(Level::Warn, Some(("f.rs", 7)), &"words");
        assert!(line.ends_with(":WARN:f.rs:7] words\n") && line.contains(" [vm:"), "{line}");
        let inner = Inner::new("vm");
        assert_eq!(inner.line(Level::Warn, None, &"words"), "secretvmm: warning: words\n");
    }
}
