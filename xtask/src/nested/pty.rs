// SPDX-License-Identifier: Apache-2.0
//! Pseudo terminals.
#![allow(unsafe_code)] // Terminal ioctls and Command::pre_exec have no safe form.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::pty::{Winsize, openpty};

mod ioctl {
    nix::ioctl_read_bad!(get_size, libc::TIOCGWINSZ, libc::winsize);
    nix::ioctl_write_ptr_bad!(set_size, libc::TIOCSWINSZ, libc::winsize);
    nix::ioctl_write_int_bad!(set_controlling, libc::TIOCSCTTY);
}

/// Rows and columns of the terminal behind `fd`.
pub(super) fn size(fd: BorrowedFd<'_>) -> Option<(u16, u16)> {
    let mut size = winsize(0, 0);
    // SAFETY: `size` is a winsize that lives through the call.
    let result = unsafe { ioctl::get_size(fd.as_raw_fd(), &raw mut size) };
    (result.is_ok() && size.ws_row > 0 && size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}

/// Sets rows and columns; the programs on the terminal are told.
pub(super) fn set_size(fd: BorrowedFd<'_>, rows: u16, columns: u16) -> io::Result<()> {
    let size = winsize(rows, columns);
    // SAFETY: `size` is a winsize that lives through the call.
    unsafe { ioctl::set_size(fd.as_raw_fd(), &raw const size) }?;
    Ok(())
}

/// A new pseudo terminal: our end, and the end for programs.
pub(super) fn open(rows: u16, columns: u16) -> io::Result<(OwnedFd, OwnedFd)> {
    let pair = openpty(Some(&winsize(rows, columns)), None)?;
    Ok((pair.master, pair.slave))
}

/// Makes the command the leader of a session, with its standard input as the
/// controlling terminal: job control works, Ctrl-C goes to it.
pub(super) fn lead_session_on_stdin(command: &mut Command) {
    // SAFETY: between fork and exec only async-signal-safe calls are made:
    // setsid and ioctl.
    unsafe {
        command.pre_exec(|| {
            nix::unistd::setsid()?;
            ioctl::set_controlling(io::stdin().as_fd().as_raw_fd(), 0)?;
            Ok(())
        });
    }
}

fn winsize(rows: u16, columns: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn size_of_a_new_terminal_is_what_was_set() {
        let (ours, theirs) = open(24, 80).unwrap();
        assert_eq!(size(theirs.as_fd()), Some((24, 80)));
        set_size(ours.as_fd(), 50, 132).unwrap();
        assert_eq!(size(theirs.as_fd()), Some((50, 132)));
    }
}
