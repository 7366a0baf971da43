// SPDX-License-Identifier: Apache-2.0
//! Who talks to whom.

use std::fmt;

/// The two ends of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Ports {
    pub(super) host: u32,
    pub(super) guest: u32,
}

impl Ports {
    /// As epoll's user data.
    pub(super) fn token(self) -> u64 {
        u64::from(self.host) << 32 | u64::from(self.guest)
    }

    pub(super) fn from_token(token: u64) -> Self {
        Self { host: (token >> 32) as u32, guest: token as u32 }
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Vsock connection between host port {} and guest port {}", self.host, self.guest)
    }
}
