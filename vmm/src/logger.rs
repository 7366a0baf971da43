//! Log lines on standard error, in the one form that all messages of the VMM have.

use log::{LevelFilter, Log, Metadata, Record};

struct Stderr;

impl Log for Stderr {
    fn enabled(&self, _metadata: &Metadata) -> bool {
        true
    }

    fn log(&self, record: &Record) {
        let level = match record.level() {
            log::Level::Warn => "warning".to_owned(),
            level => level.as_str().to_lowercase(),
        };
        eprintln!("secretvmm: {level}: {}", record.args());
    }

    fn flush(&self) {}
}

/// Installs the logger. A second call only changes the level.
pub fn init(level: LevelFilter) {
    static LOGGER: Stderr = Stderr;
    // An error means that it is installed already.
    let _ = log::set_logger(&LOGGER);
    log::set_max_level(level);
}
