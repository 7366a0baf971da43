// SPDX-License-Identifier: Apache-2.0
//! Filters of system calls, one for each kind of thread (seccomp(2)).
#![allow(unsafe_code)] // seccomp(2) has no safe form for the question whether the kernel has filters.

use std::io;

use super::filter::Thread;
use super::{bpf, policy};

/// Whether this kernel can do it.
pub(super) fn check() -> io::Result<()> {
    let action = libc::SECCOMP_RET_TRAP;
    // SAFETY: the kernel reads one word that we own.
    let answer =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, std::ptr::from_ref(&action)) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Takes from the calling thread, and from those that it starts, all system calls but those of `thread`.
pub(super) fn install(thread: Thread) -> io::Result<()> {
    let program = bpf::compile(&policy::of(thread)).map_err(io::Error::other)?;
    seccompiler::apply_filter(&program).map_err(io::Error::other)
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
        }
    }
}
