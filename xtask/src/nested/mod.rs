//! The nested host: a machine in QEMU that sees this machine's files and runs
//! one command as root, whose output and exit code come back as they are.
//!
//! ```text
//!  xtask host ── frames over a virtio-serial port ── xtask (first process inside) ── COMMAND
//!      │                                                 ▲
//!      └─ QEMU: kernel + initramfs ── /init: 9p, overlay ┘
//! ```
//!
//! One port carries everything both ways (`channel`), so that output, its end
//! and the exit code arrive in order and nothing is lost when QEMU is ended.

pub(crate) mod channel;
mod cpu;
pub(crate) mod inside;
pub(crate) mod log;
mod machine;
mod pty;
mod qemu;
mod session;
mod stale;
mod terminal;

use std::ffi::OsString;
use std::fmt;
use std::io::{self, Write, stdout};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub(crate) use cpu::count as at_once;
pub(crate) use machine::MachineArgs;
pub(crate) use session::run;

/// The hidden command by which xtask runs as the first process inside.
pub(crate) const INSIDE: &str = "__inside";

/// What to boot and to run.
pub(crate) struct Spec {
    pub(crate) kernel: PathBuf,
    /// A folder with the modules to load and their `order`, for kernels that
    /// have them.
    pub(crate) modules: Option<PathBuf>,
    pub(crate) machine: MachineArgs,
    /// The command and its arguments; never empty.
    pub(crate) command: Vec<OsString>,
    /// Set for the command, on top of this process's environment.
    pub(crate) environment: Vec<(OsString, OsString)>,
    /// Ends the host after this time.
    pub(crate) timeout: Option<Duration>,
    pub(crate) verbose: bool,
    pub(crate) input: Input,
    /// Keeps a copy of the command's standard output, and passes on whole lines.
    pub(crate) copy: Option<Capture>,
    /// A unix socket to make at which QEMU takes orders (QMP).
    pub(crate) monitor: Option<PathBuf>,
}

/// Where the command's standard input comes from.
#[derive(Clone, Default)]
pub(crate) enum Input {
    /// There is none.
    #[default]
    Nothing,
    /// This process's own, and a terminal if that is one.
    Own,
    /// What another thread of xtask sends, which is passed on as it comes.
    Stream(Arc<UnixStream>),
}

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

    fn add(&self, bytes: &[u8]) -> io::Result<()> {
        let mut captured = self.lock();
        captured.text.extend(bytes);
        let lines = captured.text.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
        captured.pass_on(lines)
    }

    /// Passes on an unfinished last line too: it names what was running when
    /// the host died.
    fn finish(&self) -> io::Result<()> {
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

/// What came of it.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The command's exit code; 128 + N if signal N ended it.
    pub(crate) code: u8,
    /// The nested host's kernel log.
    pub(crate) log: PathBuf,
}

impl Outcome {
    /// What the host's kernel complained of first, and where the rest is.
    pub(crate) fn complaint(&self) -> Option<String> {
        let reports = log::reports(&self.log);
        reports.first().map(|report| format!("the host kernel complained, see {}: {report}", self.log.display()))
    }
}

/// The nested host failed, not the command in it.
#[derive(Debug)]
pub(crate) enum Failure {
    /// QEMU ended before the command did: `String` says how, and quotes logs.
    Died(String),
    /// The time given with `--timeout` is over.
    Timeout(Duration),
    /// This process was told to stop by a signal.
    Interrupted(i32),
}

impl Failure {
    /// Whether the reader of our output has gone.
    pub(crate) fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Interrupted(libc::SIGPIPE))
    }

    /// What `cargo xtask host` exits with, told apart from usual exit codes.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Timeout(_) => 124,
            Self::Died(_) => 125,
            Self::Interrupted(signal) => u8::try_from(128 + signal).unwrap_or(u8::MAX),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Died(how) => write!(f, "The nested host died before the command ended: {how}"),
            Self::Timeout(limit) => write!(f, "The command did not end within {} s", limit.as_secs()),
            Self::Interrupted(signal) => write!(f, "Ended by signal {signal}"),
        }
    }
}

impl std::error::Error for Failure {}

/// How a nested host failed, for those who go on with another one.
///
/// # Errors
/// Gives back what is no host's failure, and the user's wish to end.
pub(crate) fn host_failure(error: anyhow::Error) -> anyhow::Result<String> {
    match error.downcast_ref::<Failure>() {
        None | Some(Failure::Interrupted(_)) => Err(error),
        Some(Failure::Died(_) | Failure::Timeout(_)) => Ok(format!("{error:#}")),
    }
}
