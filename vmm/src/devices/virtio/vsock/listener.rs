// SPDX-License-Identifier: Apache-2.0
//! Unix sockets in the file system.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use secretvmm_api::server::{self, BindError, BoundSocket};
use socket2::{Domain, SockAddr, Socket, Type};

/// A listening socket that only this user can connect to. Its file goes with it.
#[derive(Debug)]
pub(super) struct Listener(BoundSocket);

impl Listener {
    /// Listens at `path`, where a socket that nobody listens on gives way.
    ///
    /// # Errors
    /// See [`BindError`].
    pub(super) fn bind(path: &Path) -> Result<Self, BindError> {
        let bound = server::bind(path)?;
        let nonblocking = bound.listener.set_nonblocking(true);
        nonblocking.map_err(|source| BindError::Io { path: path.to_owned(), source })?;
        Ok(Self(bound))
    }

    /// The next client, which never blocks.
    pub(super) fn accept(&self) -> io::Result<UnixStream> {
        let (client, _) = self.0.listener.accept()?;
        client.set_nonblocking(true)?;
        Ok(client)
    }

    pub(super) fn path(&self) -> &Path {
        self.0.file.path()
    }
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        self.0.listener.as_raw_fd()
    }
}

/// Connects to a listener without waiting for it: one whose queue is full is one that is not there.
pub(super) fn connect(path: &Path) -> io::Result<UnixStream> {
    // A leading NUL would mean the abstract namespace.
    if path.as_os_str().as_bytes().contains(&0) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.connect(&SockAddr::unix(path)?)?;
    Ok(OwnedFd::from(socket).into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn listener_answers_and_goes_with_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("v.sock");
        let listener = Listener::bind(&path).unwrap();
        assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let _client = connect(&path).unwrap();
        listener.accept().unwrap();
        drop(listener);
        assert!(!path.exists());
    }

    #[test]
    fn path_of_the_abstract_namespace_is_refused() {
        let abstract_path = Path::new("\0abstract");
        assert!(matches!(Listener::bind(abstract_path), Err(BindError::Invalid)));
        assert_eq!(connect(abstract_path).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
