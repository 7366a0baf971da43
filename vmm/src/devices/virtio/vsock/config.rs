// SPDX-License-Identifier: Apache-2.0
//! What a user can get wrong about the device.

use std::io;

use secretvmm_api::server::BindError;

/// Context ids below this are the hypervisor's, the guest's loopback's and the host's.
const GUEST_CID_MIN: u32 = 3;
/// "Any", of which nobody can be one.
const CID_ANY: u32 = u32::MAX;

/// Why there can be no such device.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A context id that no guest can have.
    #[error("A guest's CID is at least {GUEST_CID_MIN} and less than {CID_ANY}, not {0}")]
    Cid(u32),
    /// The socket at `uds_path`.
    #[error("The vsock device cannot listen")]
    Listen(#[from] BindError),
    /// The host's kernel has no epoll instance or timer to spare.
    #[error("The vsock device cannot watch its sockets; is RLIMIT_NOFILE reached?")]
    Watch(#[source] io::Error),
}

/// Sees that a guest can have this context id.
///
/// # Errors
/// [`Error::Cid`].
pub fn check_cid(cid: u32) -> Result<(), Error> {
    if (GUEST_CID_MIN..CID_ANY).contains(&cid) { Ok(()) } else { Err(Error::Cid(cid)) }
}
