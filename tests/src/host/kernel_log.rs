// SPDX-License-Identifier: Apache-2.0
//! The host's kernel log: any oops, warning or lock report fails the test in which it appears.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;

use anyhow::{Context, Result, ensure};

/// What the kernel prints when something is wrong with the kernel itself.
const COMPLAINTS: &[&str] = &[
    "BUG:",
    "WARNING:",
    "Oops",
    "kernel BUG at",
    "general protection fault",
    "Unable to handle kernel",
    "KASAN",
    "UBSAN",
    "possible circular locking",
    "possible recursive locking",
    "suspicious RCU usage",
    "inconsistent lock state",
    "refcount_t:",
    "Bad page",
    "blocked for more than",
    "soft lockup",
    "detected stall",
    "leaked rather than",
    "Call Trace:",
];

/// A reader of the kernel's log that starts at a given moment (`/dev/kmsg`, Documentation/ABI/testing/dev-kmsg).
pub struct KernelLog {
    kmsg: File,
}

impl KernelLog {
    /// Reads what the kernel says from now on.
    ///
    /// # Errors
    /// `/dev/kmsg` cannot be opened (needs root).
    pub fn from_now() -> Result<Self> {
        let mut log = Self::from_start()?;
        log.kmsg.seek(SeekFrom::End(0)).context("Cannot skip the old kernel log")?;
        Ok(log)
    }

    /// Reads everything that the kernel still has.
    ///
    /// # Errors
    /// As [`KernelLog::from_now`].
    pub fn from_start() -> Result<Self> {
        let mut options = OpenOptions::new();
        let kmsg = options.read(true).custom_flags(libc::O_NONBLOCK).open("/dev/kmsg");
        Ok(KernelLog { kmsg: kmsg.context("Cannot open /dev/kmsg")? })
    }

    /// The messages that came since the last call.
    ///
    /// # Errors
    /// The log cannot be read, or it was overwritten before we read it (EPIPE): then nothing can be said of it.
    pub fn messages(&mut self) -> Result<Vec<String>> {
        let mut messages = Vec::new();
        let mut record = [0; 8192];
        loop {
            match self.kmsg.read(&mut record) {
                Ok(length) => messages.push(text_of(&String::from_utf8_lossy(&record[..length]))),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(messages),
                Err(error) => return Err(error).context("Cannot read the kernel log, or it overflowed"),
            }
        }
    }

    /// Fails if the kernel complained since the last call.
    ///
    /// # Errors
    /// Quotes the log from the first complaint on.
    pub fn assert_clean(&mut self) -> Result<()> {
        let messages = self.messages()?;
        let first = messages.iter().position(|message| is_complaint(message));
        let report = first.map(|at| messages[at..].join("\n"));
        ensure!(report.is_none(), "The host's kernel complained:\n{}", report.unwrap_or_default());
        Ok(())
    }
}

/// The text of a record `priority,sequence,time,flags;text\n KEY=value…`.
fn text_of(record: &str) -> String {
    let text = record.split_once(';').map_or(record, |(_, text)| text);
    text.lines().next().unwrap_or_default().to_owned()
}

fn is_complaint(message: &str) -> bool {
    COMPLAINTS.iter().any(|pattern| message.contains(pattern))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_record_drops_prefix_and_keys() {
        assert_eq!(text_of("6,339,5140900,-;NET: Registered\n SUBSYSTEM=net\n"), "NET: Registered");
    }

    #[test]
    fn is_complaint_knows_an_oops_from_chatter() {
        assert!(is_complaint("BUG: unable to handle page fault for address: ffff88810a200000"));
        assert!(is_complaint("WARNING: CPU: 1 PID: 7 at mm/secretmem.c:100 secretmem_fault+0x1/0x2"));
        assert!(!is_complaint("kvm_amd: Nested Paging enabled"));
    }
}
