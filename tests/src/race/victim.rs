// SPDX-License-Identifier: Apache-2.0
//! The process that has secret memory and a guest on it, until it is killed.
#![allow(unsafe_code)] // fork(2); the driver has one thread.

use std::fs::File;
use std::io::IoSlice;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::thread;

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, setpgid};

use super::board::{Board, Count};
use super::plan::{Plan, Scene};
use crate::area::Area;
use crate::secret;
use crate::toy::{Outcome, Program, ToyVm};

/// A victim, and this side of its socket.
pub(super) struct Victim {
    pid: Pid,
    pub(super) socket: UnixStream,
    pub(super) sends: bool,
    board: Board,
    ended: bool,
}

impl Victim {
    /// Forks it, with a process group of its own that its children are in too.
    pub(super) fn start(plan: Plan, board: &Board) -> Result<Self> {
        let (ours, theirs) = UnixStream::pair().context("Cannot create a socket pair")?;
        // SAFETY: this process has one thread, so the child may do anything.
        match unsafe { fork() }.context("Cannot fork")? {
            ForkResult::Parent { child } => {
                // Both do it, so that it is done when either goes on.
                let _ = setpgid(child, child);
                Ok(Victim { pid: child, socket: ours, sends: plan.sends, board: *board, ended: false })
            }
            ForkResult::Child => {
                let _ = setpgid(Pid::from_raw(0), Pid::from_raw(0));
                drop(ours);
                note(live(plan, &theirs, *board), plan, *board);
                // SAFETY: ends this process, whose memory nobody else looks at.
                unsafe { libc::_exit(0) }
            }
        }
    }

    pub(super) fn pid(&self) -> Pid {
        self.pid
    }

    /// Waits until it has ended by itself.
    pub(super) fn leaves(mut self) -> Result<()> {
        self.ended = true;
        let status = waitpid(self.pid, None).context("Cannot wait for a victim")?;
        ensure!(matches!(status, WaitStatus::Exited(_, 0)), "A victim ended with {status:?}");
        Ok(())
    }

    /// Kills it and its children, if that was not done.
    pub(super) fn end(&mut self) -> Result<()> {
        if self.ended {
            return Ok(());
        }
        self.ended = true;
        match kill(Pid::from_raw(-self.pid.as_raw()), Signal::SIGKILL) {
            Ok(()) => self.board.add(Count::Killed),
            Err(Errno::ESRCH) => {}
            Err(errno) => bail!("Cannot kill a victim: {errno}"),
        }
        match waitpid(self.pid, None).context("Cannot wait for a victim")? {
            WaitStatus::Signaled(_, Signal::SIGKILL, _) | WaitStatus::Exited(_, 0) => Ok(()),
            other => bail!("A victim ended with {other:?}"),
        }
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

/// Does what the plan says, for good if nobody kills it.
fn live(plan: Plan, socket: &UnixStream, board: Board) -> Result<()> {
    if plan.scene == Scene::Sizes {
        for number in 0.. {
            size_in_a_race(Plan { sends: plan.sends && number == 0, ..plan }, socket, board)?;
        }
    }
    let file = secret::file(plan.flags, plan.size).context("Cannot create secret memory")?;
    let memory = Area::of_file(&file, plan.size).context("Cannot map it")?;
    send(plan, socket, &file);
    if plan.small {
        memory.use_small_pages().context("No small pages")?;
    }
    if plan.populate {
        secret::populate(&file, 0, plan.size as i64).context("Cannot populate it")?;
    }
    match plan.scene {
        Scene::Forks => thread::scope(|scope| {
            scope.spawn(|| note(guest(&memory, Program::Spin, board), plan, board));
            loop {
                fork_and_write(plan, &memory, board)?;
            }
        }),
        Scene::Leaves => {
            drop(file);
            guest(&memory, Program::Write, board)
        }
        _ => guest(&memory, Program::Spin, board),
    }
}

/// Tells the driver of what must not fail.
fn note(result: Result<()>, plan: Plan, board: Board) {
    if let Err(error) = result {
        eprintln!("race: a victim failed with {plan:?}: {error:#}");
        board.add(Count::Violations);
    }
}

/// Runs a guest on the last page of the memory.
fn guest(memory: &Area, program: Program, board: Board) -> Result<()> {
    let mut vm = ToyVm::on(memory)?;
    board.add(Count::Guests);
    let outcome = vm.run(program, (memory.length() - 4096) as u64)?;
    ensure!(outcome == Outcome::Halted, "The guest ended with {outcome:?}");
    Ok(())
}

/// A child that writes to what it inherits: to memory that is exclusive it must not get.
fn fork_and_write(plan: Plan, memory: &Area, board: Board) -> Result<()> {
    // SAFETY: the child makes system calls only, and no other thread holds a lock that these need.
    match unsafe { fork() }.context("Cannot fork again")? {
        ForkResult::Parent { child } => waitpid(child, None).context("Cannot wait for a child").map(drop),
        ForkResult::Child => {
            for offset in [0x8000, memory.length() - 4096] {
                match (memory.try_write(offset, 2), plan.exclusive()) {
                    (Err(Errno::EFAULT), true) => board.add(Count::ChildrenRefused),
                    (Ok(()), false) => board.add(Count::ChildrenWrote),
                    _ => board.add(Count::Violations),
                }
            }
            // SAFETY: as above.
            unsafe { libc::_exit(0) }
        }
    }
}

/// A new file gets its size while one thread faults on it and another populates it.
fn size_in_a_race(plan: Plan, socket: &UnixStream, board: Board) -> Result<()> {
    let file = secret::create(plan.flags).context("Cannot create secret memory")?;
    let memory = Area::of_file(&file, plan.size).context("Cannot map a file without size")?;
    send(plan, socket, &file);
    let refused = |result: Result<(), Errno>, allowed: Errno| match result {
        Err(errno) if errno != allowed => Err(errno),
        _ => Ok(()),
    };
    thread::scope(|scope| -> Result<()> {
        let fault =
            scope.spawn(|| (8..12).try_for_each(|page| refused(memory.try_write(page * 4096, 3), Errno::EFAULT)));
        let populate = scope.spawn(|| refused(secret::populate(&file, 0, plan.size as i64), Errno::EINVAL));
        nix::unistd::ftruncate(&file, plan.size as i64).context("The size was refused")?;
        board.add(Count::Sized);
        fault.join().map_err(|_| Errno::UnknownErrno)?.context("A fault failed strangely")?;
        populate.join().map_err(|_| Errno::UnknownErrno)?.context("fallocate failed strangely")?;
        Ok(())
    })?;
    memory.try_write(0, 4).context("The memory has its size and cannot be written")
}

/// Sends the descriptor. A driver that does not read is no reason to fail, or to wait.
fn send(plan: Plan, socket: &UnixStream, file: &File) {
    if plan.sends {
        let fds = [file.as_raw_fd()];
        let message = [ControlMessage::ScmRights(&fds)];
        let _ = sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(b"f")], &message, MsgFlags::MSG_DONTWAIT, None);
    }
}
