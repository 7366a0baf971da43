// SPDX-License-Identifier: Apache-2.0
//! Lines on standard error, in a file or in a named pipe. Writing one never waits: what nobody takes is lost.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, fstat};
use rustix::io::{Errno, ReadWriteFlags, pwritev2, write};
use rustix::stdio::stderr;

/// A pipe that has room has room for this much (pipe(7), PIPE_BUF).
const ATOMIC: usize = 4096;
/// Asks a file for its own place (pwritev2(2)).
const OWN_PLACE: u64 = u64::MAX;

/// Takes lines.
#[derive(Debug)]
pub struct Lines {
    output: Output,
    /// The last line was cut, so the next one begins with an end of line.
    torn: bool,
}

#[derive(Debug)]
enum Output {
    /// Somebody else's, who may have made it so that writing waits.
    Stderr,
    /// Ours, which never waits.
    File(File),
}

/// Opens a file or named pipe for output to be appended to; makes a file if there is none. A pipe without a reader is
/// opened as well, and writing never waits for one. A symbolic link is not followed: whoever may write to its folder would
/// say where the output goes.
///
/// # Errors
/// The kernel's; and it is a symbolic link.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    // Also for reading: a pipe would refuse a writer as long as nobody reads.
    let mut options = OpenOptions::new();
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_NOFOLLOW;
    options.read(true).append(true).create(true).mode(0o600).custom_flags(flags);
    options.open(path).map_err(|err| match err.raw_os_error() {
        Some(libc::ELOOP) => io::Error::other("it is a symbolic link; name the file that it leads to"),
        _ => err,
    })
}

impl Lines {
    /// Standard error.
    pub(crate) fn stderr() -> Self {
        Self { output: Output::Stderr, torn: false }
    }

    /// Opens a file or named pipe for lines, as [`open`] does.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { output: Output::File(open(path)?), torn: false })
    }

    /// The file's descriptor; None for standard error.
    pub(crate) fn descriptor(&self) -> Option<RawFd> {
        match &self.output {
            Output::Stderr => None,
            Output::File(file) => Some(file.as_raw_fd()),
        }
    }

    /// Writes a line, which ends with an end of line.
    ///
    /// # Errors
    /// It was not taken, or not whole. The next one begins on a line of its own.
    pub fn write(&mut self, line: &str) -> io::Result<()> {
        let mut bytes = if self.torn { format!("\n{line}") } else { line.to_owned() }.into_bytes();
        while !bytes.is_empty() {
            match self.output.write_some(&bytes) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => {
                    bytes.drain(..count);
                    self.torn = !bytes.is_empty();
                }
                Err(Errno::INTR) => {}
                Err(err) => return Err(err.into()),
            }
        }
        Ok(())
    }
}

impl Output {
    fn write_some(&self, bytes: &[u8]) -> Result<usize, Errno> {
        match self {
            Output::File(file) => write(file, bytes),
            Output::Stderr => write_without_waiting(stderr(), bytes),
        }
    }
}

/// Writes to a descriptor whose flags are not ours to change, as others have it, too.
pub(crate) fn write_without_waiting(descriptor: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize, Errno> {
    if FileType::from_raw_mode(fstat(descriptor)?.st_mode) == FileType::RegularFile {
        return write(descriptor, bytes);
    }
    match pwritev2(descriptor, &[IoSlice::new(bytes)], OWN_PLACE, ReadWriteFlags::NOWAIT) {
        // Terminals, and pipes before Linux 6.4: as much as fits if anything does.
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::SPIPE) => {
            let mut events = [PollFd::from_borrowed_fd(descriptor.as_fd(), PollFlags::OUT)];
            poll(&mut events, Some(&Timespec::default()))?;
            match events[0].revents().contains(PollFlags::OUT) {
                true => write(descriptor, &bytes[..bytes.len().min(ATOMIC)]),
                false => Err(Errno::AGAIN),
            }
        }
        other => other,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Read;

    use super::*;

    fn fifo() -> (vmm_sys_util::tempdir::TempDir, std::path::PathBuf) {
        let folder = vmm_sys_util::tempdir::TempDir::new().unwrap();
        let path = folder.as_path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::Fifo, 0o600.into(), 0).unwrap();
        (folder, path)
    }

    #[test]
    fn open_takes_a_pipe_without_a_reader_and_no_folder() {
        let (folder, path) = fifo();
        let mut lines = Lines::open(&path).unwrap();
        // More than a pipe holds: refused, not waited for.
        let long = "x".repeat(1 << 20) + "\n";
        assert_eq!(lines.write(&long).unwrap_err().kind(), ErrorKind::WouldBlock);
        assert!(Lines::open(folder.as_path()).is_err());
    }

    #[test]
    fn open_follows_no_symbolic_link() {
        let (folder, path) = fifo();
        let link = folder.as_path().join("link");
        for target in [path, folder.as_path().join("nothing")] {
            std::os::unix::fs::symlink(&target, &link).unwrap();
            assert!(Lines::open(&link).unwrap_err().to_string().contains("symbolic link"));
            std::fs::remove_file(&link).unwrap();
        }
        assert!(!folder.as_path().join("nothing").exists());
    }

    #[test]
    fn line_after_one_that_was_cut_begins_on_its_own() {
        let (_folder, path) = fifo();
        let mut lines = Lines::open(&path).unwrap();
        assert!(lines.write(&("x".repeat(1 << 20) + "\n")).is_err());
        assert!(lines.write("lost whole\n").is_err());
        let mut reader = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(&path).unwrap();
        let mut text = Vec::new();
        let _ = reader.read_to_end(&mut text);
        lines.write("whole\n").unwrap();
        let mut rest = Vec::new();
        let _ = reader.read_to_end(&mut rest);
        assert!(text.iter().all(|byte| *byte == b'x'));
        assert_eq!(rest, b"\nwhole\n");
    }

    /// The descriptor blocks, as standard error usually does, and nobody reads.
    #[test]
    fn write_without_waiting_gives_up_at_a_full_pipe_and_at_a_full_socket() {
        let (_reader, writer) = io::pipe().unwrap();
        let (_peer, socket) = std::os::unix::net::UnixStream::pair().unwrap();
        for descriptor in [writer.as_fd(), socket.as_fd()] {
            let full = (0..100_000).find_map(|_| write_without_waiting(descriptor, &[b'x'; 1000]).err());
            assert_eq!(full, Some(Errno::AGAIN));
        }
    }

    #[test]
    fn write_without_waiting_to_a_reader_that_is_gone_is_an_error() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        assert_eq!(write_without_waiting(writer.as_fd(), b"x"), Err(Errno::PIPE));
    }
}
