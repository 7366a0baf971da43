// SPDX-License-Identifier: Apache-2.0
//! Filters of system calls, one for each kind of thread (seccomp(2)).
#![allow(unsafe_code)] // seccomp(2) has no safe form for the question whether the kernel has filters.

use std::io;

use seccompiler::BpfProgram;

use super::filter::Thread;
use super::policy;

/// Why a thread could not be confined.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A kernel without CONFIG_SECCOMP_FILTER.
    #[error("This kernel cannot filter system calls; boot one with CONFIG_SECCOMP_FILTER, or give --no-seccomp")]
    Unsupported(#[source] io::Error),
    /// The filter could not be made or installed.
    #[error("The system calls of the {thread} thread could not be filtered; --no-seccomp runs without")]
    Install {
        /// Whose they are.
        thread: Thread,
        /// What went wrong.
        source: seccompiler::Error,
    },
}

/// Whether the VMM's threads are confined.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Seccomp {
    /// Each to what it needs.
    #[default]
    On,
    /// `--no-seccomp`.
    Off,
}

impl Seccomp {
    /// Whether this kernel can do it, asked before there is anything to clean up.
    ///
    /// # Errors
    /// [`Error::Unsupported`]
    pub fn check(self) -> Result<(), Error> {
        if self == Self::Off {
            return Ok(());
        }
        let action = libc::SECCOMP_RET_TRAP;
        // SAFETY: the kernel reads one word that we own.
        let answer =
            unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, std::ptr::from_ref(&action)) };
        if answer == 0 { Ok(()) } else { Err(Error::Unsupported(io::Error::last_os_error())) }
    }

    /// Takes from the calling thread, and from those that it starts, all system calls but those of
    /// `thread`. It cannot be undone.
    ///
    /// # Errors
    /// [`Error::Install`]; the thread is as it was, except that it and its children gain no
    /// privileges by execve(2) any more.
    pub fn confine(self, thread: Thread) -> Result<(), Error> {
        if self == Self::Off {
            return Ok(());
        }
        let installed = program(thread).and_then(|program| seccompiler::apply_filter(&program));
        installed.map_err(|source| Error::Install { thread, source })
    }
}

fn program(thread: Thread) -> Result<BpfProgram, seccompiler::Error> {
    Ok(policy::of(thread).filter()?.try_into()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_name_each_call_in_one_way() {
        for thread in Thread::ALL {
            let policy = policy::of(thread);
            let twice: Vec<_> = policy.named_twice();
            assert!(twice.is_empty(), "{thread}: {twice:?}");
            assert!(program(thread).is_ok(), "{thread}");
        }
    }
}
