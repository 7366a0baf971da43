// SPDX-License-Identifier: Apache-2.0
//! Takes other processes' secret files, and tries what can be done with them.
#![allow(unsafe_code)] // pidfd_open(2), pidfd_getfd(2), and descriptors that come over a socket.

use std::ffi::c_long;
use std::fs::{self, File};
use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use anyhow::{Context, Result, ensure};
use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use nix::unistd::Pid;

use super::board::{Board, Count};
use super::dice::Dice;
use super::plan::Plan;
use super::victim::Victim;
use crate::area::Area;
use crate::secret::{self, HUGE_SIZE};
use crate::toy::{Outcome, Program, ToyVm};

/// Where the thief's guest has its program: the victim's has its own in the same memory.
const ENTRY: u16 = 0x3000;

/// The victim's secret file, if it has one at this moment.
pub(super) fn steal(victim: &Victim, dice: &mut Dice) -> Result<Option<Stolen>> {
    if victim.sends && !dice.once_in(3) {
        return Ok(receive(victim.socket.as_raw_fd())?.map(|file| Stolen { file, received: true }));
    }
    Ok(take(victim.pid())?.map(|file| Stolen { file, received: false }))
}

/// A file of somebody else's.
pub(super) struct Stolen {
    pub(super) file: File,
    received: bool,
}

/// Maps the file, writes to it, populates it and runs a guest on it, as far as its flags allow.
pub(super) fn try_all(stolen: &Stolen, plan: Plan, board: &Board, dice: &mut Dice) -> Result<()> {
    board.add(if stolen.received { Count::Received } else { Count::Taken });
    if plan.exclusive() {
        assert_closed(&stolen.file)?;
        board.add(Count::ThiefRefused);
        return Ok(());
    }
    let memory = Area::of_file(&stolen.file, HUGE_SIZE).context("Cannot map a file that anybody may map")?;
    // Before the file has its size, nothing can be had.
    let sized = memory.try_write(0, 5).is_ok();
    if sized && dice.once_in(2) {
        secret::populate(&stolen.file, 0, HUGE_SIZE as i64).context("Cannot populate it")?;
    }
    if sized && dice.once_in(3) {
        let outcome = run_guest(&memory)?;
        ensure!(outcome == Outcome::Halted, "The guest ended with {outcome:?}");
        board.add(Count::ThiefGuests);
    }
    Ok(())
}

/// Asserts that nothing can be done with an exclusive file.
pub(super) fn assert_closed(file: &File) -> Result<()> {
    let mapped = Area::of_file(file, HUGE_SIZE).map(drop);
    ensure!(mapped == Err(Errno::EPERM), "mmap of an exclusive file: {mapped:?}");
    let populated = secret::populate(file, 0, 4096);
    ensure!(populated == Err(Errno::EPERM), "fallocate of an exclusive file: {populated:?}");
    let sized = nix::unistd::ftruncate(file, HUGE_SIZE as i64);
    ensure!(sized == Err(Errno::EPERM), "ftruncate of an exclusive file: {sized:?}");
    Ok(())
}

fn run_guest(memory: &Area) -> Result<Outcome> {
    ToyVm::on(memory)?.entered_at(ENTRY).run(Program::Halt, 0)
}

/// The first secret file among the process's descriptors.
pub(super) fn take(pid: Pid) -> Result<Option<File>> {
    let Some(number) = secret_descriptor(pid) else { return Ok(None) };
    let process = owned(&[libc::SYS_pidfd_open, pid.as_raw().into(), 0]).context("pidfd_open failed")?;
    match owned(&[libc::SYS_pidfd_getfd, process.as_raw_fd().into(), number.into(), 0]) {
        Ok(file) if is_secret(file.as_raw_fd(), "self") => Ok(Some(File::from(file))),
        // Closed in between, and maybe something else by now; or its process is ending.
        Ok(_) | Err(Errno::EBADF | Errno::ESRCH) => Ok(None),
        Err(errno) => Err(errno).context("pidfd_getfd failed"),
    }
}

fn secret_descriptor(pid: Pid) -> Option<RawFd> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    let mut numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    numbers.find(|&number| is_secret(number, &pid.to_string()))
}

fn is_secret(number: RawFd, process: &str) -> bool {
    fs::read_link(format!("/proc/{process}/fd/{number}"))
        .is_ok_and(|target| target.to_string_lossy().starts_with("/secretmem"))
}

/// A descriptor that lies in the socket.
fn receive(socket: RawFd) -> Result<Option<File>> {
    let (mut byte, mut space) = ([0], cmsg_space!([RawFd; 1]));
    let mut buffers = [IoSliceMut::new(&mut byte)];
    let message = match recvmsg::<()>(socket, &mut buffers, Some(&mut space), MsgFlags::MSG_DONTWAIT) {
        Ok(message) => message,
        Err(Errno::EAGAIN | Errno::ECONNRESET) => return Ok(None),
        Err(errno) => return Err(errno).context("recvmsg failed"),
    };
    let fds = message.cmsgs().context("Control messages are cut off")?.find_map(|message| match message {
        ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
        _ => None,
    });
    // SAFETY: the kernel has just given us this descriptor, and nobody else knows it.
    Ok(fds.map(|fd| unsafe { File::from_raw_fd(fd) }))
}

/// A system call that returns a descriptor.
fn owned(call: &[c_long]) -> Result<OwnedFd, Errno> {
    let argument = |index: usize| call.get(index).copied().unwrap_or(0);
    // SAFETY: both calls take integers only.
    let fd = Errno::result(unsafe { libc::syscall(argument(0), argument(1), argument(2), argument(3)) })?;
    let fd = RawFd::try_from(fd).map_err(|_| Errno::EBADF)?;
    // SAFETY: the call has just returned this descriptor to us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
