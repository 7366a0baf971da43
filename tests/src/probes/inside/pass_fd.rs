// SPDX-License-Identifier: Apache-2.0
//! `SCM_RIGHTS`: the VMM sends its RAM's descriptor over a socket, and another process maps it.
#![allow(unsafe_code)] // A descriptor that comes in a message.

use std::fs::File;
use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};

use anyhow::{Context, Result};
use nix::cmsg_space;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

use crate::probes::{Outcome, Subject};
use crate::tracee::Tracee;

pub(super) fn run(subject: &Subject<'_>) -> Result<Outcome> {
    let number = subject.ram_descriptor()? as u64;
    let received = receive(&send(&mut Tracee::attach(subject.pid())?, number)?)?;
    subject.judge_mapped(&received)
}

/// Lets the process send a descriptor; gives the other end of the socket.
fn send(tracee: &mut Tracee, descriptor: u64) -> Result<File> {
    let ends = tracee.put(&[0; 8])?;
    tracee.must(libc::SYS_socketpair, &[libc::AF_UNIX as u64, libc::SOCK_DGRAM as u64, 0, ends])?;
    let word = u64::from_le_bytes(tracee.get(ends)?);
    let (ours, theirs) = (word & 0xffff_ffff, word >> 32);
    // struct cmsghdr: length, level and type; then the descriptor.
    let kind = libc::SOL_SOCKET as u64 | (libc::SCM_RIGHTS as u64) << 32;
    let control = tracee.put_words(&[20, kind, descriptor])?;
    let byte = tracee.put(b"f")?;
    let data = tracee.put_words(&[byte, 1])?;
    // struct msghdr: no name; one iovec; the control message; no flags.
    let message = tracee.put_words(&[0, 0, data, 1, control, 24, 0])?;
    tracee.must(libc::SYS_sendmsg, &[theirs, message, 0])?;
    let socket = tracee.take(ours)?;
    tracee.close(ours)?;
    tracee.close(theirs)?;
    Ok(socket)
}

fn receive(socket: &File) -> Result<File> {
    let (mut byte, mut space) = ([0], cmsg_space!([RawFd; 1]));
    let mut buffers = [IoSliceMut::new(&mut byte)];
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut buffers, Some(&mut space), MsgFlags::MSG_DONTWAIT)?;
    let fd = message.cmsgs()?.find_map(|message| match message {
        ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
        _ => None,
    });
    // SAFETY: the kernel has just given us this descriptor, and nobody else knows it.
    Ok(unsafe { File::from_raw_fd(fd.context("No descriptor came")?) })
}
