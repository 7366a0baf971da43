// SPDX-License-Identifier: Apache-2.0
//! A process that is stopped by ptrace(2) and made to execute system calls of ours, as a debugger with full rights can.
//!
//! What the process does so, it does with its own memory, rights and descriptors. Its seccomp filter is suspended
//! meanwhile, so that a refusal comes from the memory and not from that policy.

use std::fs::{File, OpenOptions};
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result, bail, ensure};
use libc::{c_long, user_regs_struct};
use nix::errno::Errno;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::host::process::mappings;
use crate::sys::{self, ByPolicy};

/// include/uapi/linux/ptrace.h; nix has no name for it.
const PTRACE_O_SUSPEND_SECCOMP: i32 = 1 << 21;
/// x86-64's `syscall`.
const SYSCALL: [u8; 2] = [0x0f, 0x05];
/// Memory of ours in the process, for what the calls' arguments point to.
const SCRATCH: u64 = 64 << 10;

/// What an interrupted call returns, which only a tracer gets to see (include/linux/errno.h): ERESTARTSYS,
/// ERESTARTNOINTR, ERESTARTNOHAND, ERESTART_RESTARTBLOCK.
const RESTARTS: [i64; 4] = [-512, -513, -514, -516];

/// A stopped process. Dropping it lets it go on as if nothing had been.
pub struct Tracee {
    pid: Pid,
    saved: user_regs_struct,
    /// Where it has a `syscall` instruction.
    instruction: u64,
    memory: File,
    process: OwnedFd,
    scratch: Option<u64>,
    used: u64,
    /// The process that the last call made.
    child: Option<Pid>,
    ended: bool,
}

impl Tracee {
    /// Stops the main thread of a process.
    ///
    /// # Errors
    /// [`ByPolicy`] if ptrace's rules forbid it; or the process is gone.
    pub fn attach(pid: u32) -> Result<Self> {
        Self::attach_with(pid, Options::from_bits_retain(PTRACE_O_SUSPEND_SECCOMP))
    }

    fn attach_with(pid: u32, options: Options) -> Result<Self> {
        let pid = Pid::from_raw(pid.cast_signed());
        let follow = Options::PTRACE_O_TRACEFORK | Options::PTRACE_O_TRACECLONE | Options::PTRACE_O_TRACEEXEC;
        ptrace::seize(pid, options | follow).map_err(ByPolicy::or_error).context("Cannot attach")?;
        ptrace::interrupt(pid).context("Cannot stop it")?;
        Self::of_stopped(pid)
    }

    fn of_stopped(pid: Pid) -> Result<Self> {
        match waitpid(pid, Some(WaitPidFlag::__WALL)).context("Cannot wait for it to stop")? {
            WaitStatus::PtraceEvent(..) | WaitStatus::Stopped(..) => {}
            other => bail!("It did not stop: {other:?}"),
        }
        let memory = OpenOptions::new().read(true).write(true).open(format!("/proc/{pid}/mem"))?;
        let process = sys::pidfd_open(pid.as_raw().cast_unsigned())?;
        let saved = ptrace::getregs(pid)?;
        let (scratch, used) = (None, 0);
        let mut tracee =
            Tracee { pid, saved, instruction: 0, memory, process, scratch, used, child: None, ended: false };
        tracee.instruction = tracee.find_instruction()?;
        Ok(tracee)
    }

    /// The scratch memory, mapped when it is first used.
    fn scratch(&mut self) -> Result<u64> {
        if let Some(address) = self.scratch {
            return Ok(address);
        }
        let access = (libc::PROT_READ | libc::PROT_WRITE) as u64;
        let flags = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as u64;
        let address = self.must(libc::SYS_mmap, &[0, SCRATCH, access, flags, u64::MAX, 0])?;
        self.scratch = Some(address);
        Ok(address)
    }

    fn find_instruction(&self) -> Result<u64> {
        let maps = mappings(self.pid.as_raw().cast_unsigned())?;
        for map in maps.iter().filter(|map| map.permissions.contains('x')) {
            let mut code = vec![0; usize::try_from((map.end - map.start).min(1 << 20))?];
            let Ok(length) = self.memory.read_at(&mut code, map.start) else { continue };
            if let Some(at) = code[..length].windows(2).position(|bytes| bytes == SYSCALL) {
                return Ok(map.start + at as u64);
            }
        }
        bail!("The process has no syscall instruction");
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw().cast_unsigned()
    }

    /// Lets it make one system call; gives what the call returned. A call that a signal interrupts is made again.
    ///
    /// # Errors
    /// The process did something else than that.
    pub fn call(&mut self, number: c_long, arguments: &[u64]) -> Result<Result<u64, Errno>> {
        loop {
            let returned = self.call_once(number, arguments)?;
            if !RESTARTS.contains(&returned) {
                return Ok(match i32::try_from(returned) {
                    Ok(errno @ -4095..0) => Err(Errno::from_raw(-errno)),
                    _ => Ok(returned.cast_unsigned()),
                });
            }
        }
    }

    fn call_once(&mut self, number: c_long, arguments: &[u64]) -> Result<i64> {
        let argument = |index: usize| arguments.get(index).copied().unwrap_or(0);
        let mut regs = self.saved;
        regs.rip = self.instruction;
        regs.rax = number.cast_unsigned();
        // The kernel itself restarts nothing: its way to do so would change our registers.
        regs.orig_rax = u64::MAX;
        (regs.rdi, regs.rsi, regs.rdx) = (argument(0), argument(1), argument(2));
        (regs.r10, regs.r8, regs.r9) = (argument(3), argument(4), argument(5));
        ptrace::setregs(self.pid, regs)?;
        self.step()?;
        Ok(ptrace::getregs(self.pid)?.rax.cast_signed())
    }

    /// One instruction.
    fn step(&mut self) -> Result<()> {
        loop {
            ptrace::step(self.pid, None)?;
            match waitpid(self.pid, Some(WaitPidFlag::__WALL))? {
                WaitStatus::Stopped(_, Signal::SIGTRAP) => return Ok(()),
                WaitStatus::PtraceEvent(_, _, libc::PTRACE_EVENT_FORK | libc::PTRACE_EVENT_CLONE) => {
                    self.child = Some(Pid::from_raw(i32::try_from(ptrace::getevent(self.pid)?)?));
                }
                // Another event, or a signal that it will not miss.
                WaitStatus::PtraceEvent(..) | WaitStatus::Stopped(..) => {}
                other => bail!("It ended instead of returning from a system call: {other:?}"),
            }
        }
    }

    /// As [`Tracee::call`], for calls that must not fail.
    ///
    /// # Errors
    /// It did.
    pub fn must(&mut self, number: c_long, arguments: &[u64]) -> Result<u64> {
        self.call(number, arguments)?.with_context(|| format!("System call {number} failed in the process"))
    }

    /// Copies bytes into its scratch memory; gives their address.
    ///
    /// # Errors
    /// There is no room left.
    pub fn put(&mut self, bytes: &[u8]) -> Result<u64> {
        let (at, length) = (self.scratch()? + self.used, (bytes.len() as u64).next_multiple_of(16));
        ensure!(self.used + length <= SCRATCH, "The scratch memory is used up");
        self.memory.write_all_at(bytes, at)?;
        self.used += length;
        Ok(at)
    }

    /// As [`Tracee::put`], for the words of a C structure.
    ///
    /// # Errors
    /// As [`Tracee::put`].
    pub fn put_words(&mut self, words: &[u64]) -> Result<u64> {
        let bytes = words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>();
        self.put(&bytes)
    }

    /// A path or other text that ends with a zero byte.
    ///
    /// # Errors
    /// As [`Tracee::put`].
    pub fn put_text(&mut self, text: &str) -> Result<u64> {
        self.put(&[text.as_bytes(), &[0]].concat())
    }

    /// Reads its ordinary memory.
    ///
    /// # Errors
    /// There is none at that address.
    pub fn get<const N: usize>(&self, address: u64) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.memory.read_exact_at(&mut bytes, address)?;
        Ok(bytes)
    }

    /// Opens a file in the process.
    ///
    /// # Errors
    /// It cannot.
    pub fn open(&mut self, path: &str, flags: i32) -> Result<u64> {
        let name = self.put_text(path)?;
        let flags = (flags | libc::O_CLOEXEC) as u64;
        let at = i64::from(libc::AT_FDCWD).cast_unsigned();
        self.call(libc::SYS_openat, &[at, name, flags])?.with_context(|| format!("Cannot open {path} there"))
    }

    /// A descriptor of the process, as our own.
    ///
    /// # Errors
    /// It has no such descriptor.
    pub fn take(&self, descriptor: u64) -> Result<File> {
        Ok(sys::pidfd_getfd(&self.process, RawFd::try_from(descriptor)?)?)
    }

    /// A pipe: this end to read from, and the process's descriptor to write to.
    ///
    /// # Errors
    /// It has too many descriptors.
    pub fn pipe(&mut self) -> Result<(File, u64)> {
        let ends = self.put(&[0; 8])?;
        self.must(libc::SYS_pipe2, &[ends, libc::O_CLOEXEC as u64])?;
        let bytes: [u8; 8] = self.get(ends)?;
        let word = u64::from_le_bytes(bytes);
        let (read, write) = (word & 0xffff_ffff, word >> 32);
        let reader = self.take(read)?;
        self.close(read)?;
        Ok((reader, write))
    }

    /// Closes a descriptor of the process.
    ///
    /// # Errors
    /// The process is gone.
    pub fn close(&mut self, descriptor: u64) -> Result<()> {
        self.call(libc::SYS_close, &[descriptor]).map(drop)
    }

    /// Lets it make a process with clone(2); that one is stopped, too.
    ///
    /// # Errors
    /// It cannot.
    pub fn clone_with(&mut self, flags: u64) -> Result<Tracee> {
        self.must(libc::SYS_clone, &[flags, 0, 0, 0, 0])?;
        let child = self.child.take().context("No child appeared")?;
        Tracee::of_stopped(child)
    }

    /// Replaces its program. Descriptors that close on exec are gone then.
    ///
    /// # Errors
    /// There is no such program.
    pub fn exec(&mut self, program: &str) -> Result<()> {
        let path = self.put_text(program)?;
        let arguments = self.put_words(&[path, 0])?;
        self.must(libc::SYS_execve, &[path, arguments, 0])?;
        self.memory = OpenOptions::new().read(true).write(true).open(format!("/proc/{}/mem", self.pid))?;
        self.saved = ptrace::getregs(self.pid)?;
        (self.scratch, self.used) = (None, 0);
        self.instruction = self.find_instruction()?;
        Ok(())
    }

    /// Ends a child of `parent` by a signal that it has not handled, before it executes anything of its own.
    ///
    /// # Errors
    /// It cannot be ended.
    pub fn end(mut self, signal: Signal, parent: &mut Tracee) -> Result<()> {
        // Nothing of it has to be put right.
        self.ended = true;
        kill(self.pid, signal).context("Cannot send the child a signal")?;
        if signal == Signal::SIGKILL {
            waitpid(self.pid, Some(WaitPidFlag::__WALL))?;
        } else {
            // Other signals are for the tracer to pass on.
            ptrace::cont(self.pid, None)?;
            let stop = waitpid(self.pid, Some(WaitPidFlag::__WALL))?;
            ensure!(matches!(stop, WaitStatus::Stopped(_, got) if got == signal), "Instead of {signal}: {stop:?}");
            ptrace::detach(self.pid, signal)?;
        }
        parent.must(libc::SYS_wait4, &[self.pid().into(), 0, libc::__WALL as u64, 0]).map(drop)
    }

    fn let_go(&mut self) -> Result<()> {
        if let Some(address) = self.scratch {
            self.must(libc::SYS_munmap, &[address, SCRATCH])?;
        }
        ptrace::setregs(self.pid, self.saved)?;
        Ok(ptrace::detach(self.pid, None)?)
    }
}

impl Drop for Tracee {
    fn drop(&mut self) {
        if !self.ended
            && let Err(error) = self.let_go()
        {
            eprintln!("tracee: {error:#}");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::{Read, Write};
    use std::process::{Command, Stdio};
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn call_that_a_signal_interrupts_is_made_again() {
        let mut command = Command::new("cat");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        // Its answer says that it is past exec.
        child.stdin.as_ref().unwrap().write_all(b"x").unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        // The rest needs root.
        let mut tracee = Tracee::attach_with(child.id(), Options::empty()).unwrap();
        let half_a_second = tracee.put_words(&[0, 500_000_000]).unwrap();
        let pid = Pid::from_raw(child.id().cast_signed());
        let disturb = move || {
            for _ in 0..4 {
                thread::sleep(Duration::from_millis(100));
                kill(pid, Signal::SIGWINCH).unwrap();
            }
        };
        let disturber = thread::spawn(disturb);
        let result = tracee.call(libc::SYS_nanosleep, &[half_a_second, 0]).unwrap();
        disturber.join().unwrap();
        drop(tracee);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(result, Ok(0));
    }
}
