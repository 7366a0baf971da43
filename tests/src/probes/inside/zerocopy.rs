// SPDX-License-Identifier: Apache-2.0
//! `MSG_ZEROCOPY`: a TCP socket that sends from the pages themselves (Documentation/networking/msg_zerocopy.rst).

use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use anyhow::{Result, bail};
use secretvmm_canary::PAGE_SIZE;

use crate::probes::{Outcome, Subject};
use crate::tracee::Tracee;

pub(super) fn run(subject: &Subject<'_>) -> Result<Outcome> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let SocketAddr::V4(address) = listener.local_addr()? else { bail!("No IPv4 address") };
    let mut tracee = Tracee::attach(subject.pid())?;
    let socket = tracee.must(libc::SYS_socket, &[libc::AF_INET as u64, libc::SOCK_STREAM as u64, 0])?;
    let family = (libc::AF_INET as u16).to_ne_bytes();
    let name = [&family[..], &address.port().to_be_bytes(), &address.ip().octets(), &[0; 8]].concat();
    let name = tracee.put(&name)?;
    tracee.must(libc::SYS_connect, &[socket, name, 16])?;
    let on = tracee.put(&1u32.to_ne_bytes())?;
    let level = libc::SOL_SOCKET as u64;
    tracee.must(libc::SYS_setsockopt, &[socket, level, libc::SO_ZEROCOPY as u64, on, 4])?;
    let length = PAGE_SIZE as u64;
    let flags = libc::MSG_ZEROCOPY as u64;
    let sent = tracee.call(libc::SYS_sendto, &[socket, subject.planted[0], length, flags, 0, 0])?;
    let (mut peer, _) = listener.accept()?;
    peer.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut page = [0; PAGE_SIZE];
    if sent.is_ok() {
        peer.read_exact(&mut page)?;
    }
    tracee.close(socket)?;
    Ok(match sent {
        Ok(_) => subject.judge(&page),
        Err(errno) => Outcome::refused(errno),
    })
}
