// SPDX-License-Identifier: Apache-2.0
//! What the host's kernel tells everybody about its network devices (rtnetlink(7)).

use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, setsockopt, socket, sockopt,
};

/// Hears of changes of devices.
pub(crate) struct Changes(OwnedFd);

impl Changes {
    pub(crate) fn listen() -> Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute);
        let fd = fd.context("No netlink")?;
        setsockopt(&fd, sockopt::RcvBuf, &(8 << 20))?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, libc::RTMGRP_LINK.cast_unsigned()))?;
        Ok(Self(fd))
    }

    /// How many messages came since the last call, at least.
    pub(crate) fn count(&self) -> u64 {
        let mut message = [0; 8192];
        let mut count = 0;
        loop {
            match recv(self.0.as_raw_fd(), &mut message, MsgFlags::empty()) {
                Ok(_) | Err(Errno::ENOBUFS | Errno::EINTR) => count += 1,
                Err(_) => return count,
            }
        }
    }
}
