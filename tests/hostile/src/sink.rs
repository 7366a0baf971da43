// SPDX-License-Identifier: Apache-2.0
//! Where a VMM's output goes, which may be of no use.

use std::fs::OpenOptions;
use std::io::{PipeReader, pipe};
use std::process::Stdio;

use anyhow::Result;
use nix::fcntl::{FcntlArg, OFlag, fcntl};

/// What becomes of a standard stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sink {
    /// A pipe whose reader reads.
    Read,
    /// A pipe whose reader does not.
    Unread,
    /// The same, and a write to it fails rather than waits.
    NonBlocking,
    /// A pipe whose reader is gone.
    Broken,
    /// A file on a full disk.
    Full,
}

impl Sink {
    /// The stream, and the end that the caller has to keep.
    pub(crate) fn open(self) -> Result<(Stdio, Option<PipeReader>)> {
        if self == Sink::Full {
            return Ok((OpenOptions::new().write(true).open("/dev/full")?.into(), None));
        }
        let (reader, writer) = pipe()?;
        if self == Sink::NonBlocking {
            let flags = OFlag::from_bits_retain(fcntl(&writer, FcntlArg::F_GETFL)?);
            fcntl(&writer, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        }
        Ok((writer.into(), (self != Sink::Broken).then_some(reader)))
    }
}
