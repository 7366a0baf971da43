// SPDX-License-Identifier: Apache-2.0
//! Has a thread of another process make a system call, as an attacker who has taken it over would.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// Length of `syscall`.
const SYSCALL_INSTRUCTION: u64 = 2;
/// In place of the number of an interrupted call: there is none to restart.
const NO_CALL: u64 = u64::MAX;
/// A thread that is busy in user space is asked again.
const TRIES: usize = 500;

/// The thread of that name.
///
/// # Errors
/// There is none, or the process is gone.
pub fn thread_named(process: u32, name: &str) -> Result<Pid> {
    for entry in fs::read_dir(format!("/proc/{process}/task"))? {
        let entry = entry?;
        if fs::read_to_string(entry.path().join("comm"))?.trim_end() == name {
            return Ok(Pid::from_raw(entry.file_name().to_string_lossy().parse()?));
        }
    }
    bail!("Process {process} has no thread {name}")
}

/// How many filters of system calls (seccomp(2)) the thread has.
///
/// # Errors
/// The thread is gone.
pub fn filters(process: u32, thread: Pid) -> Result<u32> {
    let status = fs::read_to_string(format!("/proc/{process}/task/{thread}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("Seccomp_filters:")).context("No such line")?;
    line.trim().parse().context("Not a number")
}

/// Has a thread that waits in a system call make another one instead: the thread sees its result as that of the
/// first.
///
/// # Errors
/// The thread cannot be traced, or makes no system calls.
pub fn system_call(thread: Pid, number: i64, argument: u64) -> Result<()> {
    for _ in 0..TRIES {
        if try_system_call(thread, number, argument)? {
            return Ok(());
        }
        sleep(Duration::from_millis(10));
    }
    bail!("The thread is never in a system call")
}

/// False if the thread is not in a system call at the moment.
fn try_system_call(thread: Pid, number: i64, argument: u64) -> Result<bool> {
    ptrace::attach(thread).context("Cannot attach")?;
    let status = waitpid(thread, Some(WaitPidFlag::__WALL))?;
    ensure!(matches!(status, WaitStatus::Stopped(..)), "The thread did not stop: {status:?}");
    let mut registers = ptrace::getregs(thread).context("Cannot read registers")?;
    if registers.orig_rax == NO_CALL {
        ptrace::detach(thread, None).context("Cannot detach")?;
        return Ok(false);
    }
    registers.rip -= SYSCALL_INSTRUCTION;
    registers.rax = number.cast_unsigned();
    registers.rdi = argument;
    registers.orig_rax = NO_CALL;
    ptrace::setregs(thread, registers).context("Cannot write registers")?;
    ptrace::detach(thread, None).context("Cannot detach")?;
    Ok(true)
}
