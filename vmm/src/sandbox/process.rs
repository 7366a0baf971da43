// SPDX-License-Identifier: Apache-2.0
//! What the whole process gives up before it reads anything that somebody else wrote.
#![allow(unsafe_code)] // close_range and signal have no safe form.

use std::io;

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use rustix::thread::set_no_new_privs;

/// The first descriptor behind standard input, output and error.
const FIRST: u32 = 3;

/// Takes from the process what it never needs:
///
/// - no core dump and no debugger of the same user, as keys and guest memory are in this process;
/// - no privileges by executing a program;
/// - no descriptor that whoever started it left open;
/// - no handler for SIGSEGV: the runtime's makes calls that filters forbid, and would hide the signal;
/// - no end by SIGXFSZ: a file that reaches RLIMIT_FSIZE is an error, for a guest's disk an I/O error.
///
/// # Errors
/// The kernel refused one of them.
pub fn harden() -> io::Result<()> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    set_no_new_privs(true)?;
    // SAFETY: nothing of ours is open yet but the first three.
    if unsafe { libc::syscall(libc::SYS_close_range, FIRST, u32::MAX, 0) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: neither action takes a handler.
    unsafe {
        libc::signal(libc::SIGSEGV, libc::SIG_DFL);
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    }
    Ok(())
}
