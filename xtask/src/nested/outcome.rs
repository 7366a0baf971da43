// SPDX-License-Identifier: Apache-2.0
//! How a nested host ended.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::log;

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
