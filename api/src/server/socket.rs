// SPDX-License-Identifier: Apache-2.0
//! The socket's file: private from its first moment on, never somebody else's, gone at the end.

use std::fs::{self, File, Metadata, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

/// The longest path of a unix socket in bytes: `sun_path` with its final zero has 108.
const PATH_MAX: usize = 107;
/// Clients that may wait to be accepted; the kernel may have a lower limit. Most clients fail, instead of
/// waiting, when there are more.
const BACKLOG: i32 = 4096;

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// More than an address can hold.
    #[error("The socket's path has {0} bytes, {PATH_MAX} are possible; choose a shorter one, or a relative one")]
    TooLong(usize),
    /// No path, or one with a NUL, which would mean a socket without a file that every user can reach.
    #[error("The socket's path is empty or contains a NUL")]
    Invalid,
    /// There is a file, but no socket.
    #[error("{} exists and is no socket; remove it or choose another path for the socket", .0.display())]
    NotASocket(PathBuf),
    /// Another process listens there.
    #[error("{} is in use by another process; stop that or choose another path for the socket", .0.display())]
    InUse(PathBuf),
    /// Everything else that the kernel refuses.
    #[error("The socket {} cannot be made", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// A listening socket and its file.
#[derive(Debug)]
pub struct BoundSocket {
    /// For [`Server::new`](super::Server::new).
    pub listener: UnixListener,
    /// To be kept for as long as clients may find the socket.
    pub file: SocketFile,
}

/// The socket's file, which is removed when this is dropped, if it is still the same.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    inode: (u64, u64),
}

impl SocketFile {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|metadata| inode(&metadata) == self.inode)
            && let Err(err) = fs::remove_file(&self.path)
        {
            log::warn!("The socket {} cannot be removed: {err}", self.path.display());
        }
    }
}

/// Makes a socket that only this user can connect to (mode 0600) and listens on it. A socket on which
/// nobody listens any more is replaced.
pub fn bind(path: impl AsRef<Path>) -> Result<BoundSocket, BindError> {
    let path = path.as_ref();
    match path.as_os_str().as_bytes() {
        bytes if bytes.is_empty() || bytes.contains(&0) => return Err(BindError::Invalid),
        bytes if bytes.len() > PATH_MAX => return Err(BindError::TooLong(bytes.len())),
        _ => {}
    }
    make_room(path)?;
    let io_error = |source: io::Error| match source.kind() {
        io::ErrorKind::AddrInUse => BindError::InUse(path.to_owned()),
        _ => BindError::Io { path: path.to_owned(), source },
    };
    let listener = listen(path).map_err(io_error)?;
    let inode = fs::symlink_metadata(path).map(|metadata| inode(&metadata)).map_err(io_error)?;
    Ok(BoundSocket { listener, file: SocketFile { path: path.to_owned(), inode } })
}

fn listen(path: &Path) -> io::Result<UnixListener> {
    let socket = File::from(OwnedFd::from(Socket::new(Domain::UNIX, Type::STREAM, None)?));
    // bind(2) makes the file with the socket's own mode (less the umask), so that there is no moment
    // in which others could connect.
    socket.set_permissions(Permissions::from_mode(0o600))?;
    let socket = Socket::from(OwnedFd::from(socket));
    socket.bind(&SockAddr::unix(path)?)?;
    socket.listen(BACKLOG)?;
    Ok(UnixListener::from(OwnedFd::from(socket)))
}

/// Removes a socket on which nobody listens. Anything else that exists is an error.
fn make_room(path: &Path) -> Result<(), BindError> {
    let io_error = |source| BindError::Io { path: path.to_owned(), source };
    let metadata = match fs::symlink_metadata(path) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(()),
        metadata => metadata.map_err(io_error)?,
    };
    if !metadata.file_type().is_socket() {
        return Err(BindError::NotASocket(path.to_owned()));
    }
    match connect(path) {
        Err(err) if err.kind() == io::ErrorKind::ConnectionRefused => {}
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(()),
        // Connected, or too many clients already wait: there is somebody.
        Ok(()) => return Err(BindError::InUse(path.to_owned())),
        Err(err) if err.kind() == io::ErrorKind::WouldBlock => return Err(BindError::InUse(path.to_owned())),
        // A socket of another kind has somebody, too.
        Err(err) if err.raw_os_error() == Some(EPROTOTYPE) => return Err(BindError::InUse(path.to_owned())),
        Err(err) => return Err(io_error(err)),
    }
    // Still the one that was tried?
    if fs::symlink_metadata(path).is_ok_and(|now| inode(&now) == inode(&metadata)) {
        fs::remove_file(path).map_err(io_error)?;
    }
    Ok(())
}

/// EPROTOTYPE of `errno.h`, the same on all of Linux' architectures that KVM has but MIPS.
const EPROTOTYPE: i32 = 91;

fn connect(path: &Path) -> io::Result<()> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.connect(&SockAddr::unix(path)?)
}

fn inode(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::net::{UnixDatagram, UnixStream};

    #[test]
    fn bind_makes_a_private_socket_and_removes_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("api.sock");
        let socket = bind(&path).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(socket.file.path(), path);
        UnixStream::connect(&path).unwrap();
        drop(socket);
        assert!(!path.exists());
    }

    #[test]
    fn bind_without_a_path_or_in_the_abstract_namespace_is_refused() {
        for path in ["", "\0abstract", "a\0b"] {
            assert!(matches!(bind(path), Err(BindError::Invalid)), "{path:?}");
        }
    }

    #[test]
    fn bind_replaces_a_stale_socket() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("api.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let socket = bind(&path).unwrap();
        UnixStream::connect(&path).unwrap();
        drop(socket);
    }

    #[test]
    fn bind_refuses_a_live_socket() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("api.sock");
        let _live = bind(&path).unwrap();
        assert!(matches!(bind(&path), Err(BindError::InUse(_))));
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn bind_refuses_a_live_socket_that_answers_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("busy.sock");
        let busy = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        busy.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        busy.listen(0).unwrap();
        let _first = UnixStream::connect(&path).unwrap();
        assert!(matches!(bind(&path), Err(BindError::InUse(_))));
        let path = dir.path().join("datagram.sock");
        let _live = UnixDatagram::bind(&path).unwrap();
        assert!(matches!(bind(&path), Err(BindError::InUse(_))));
    }

    #[test]
    fn bind_refuses_what_is_no_socket() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "precious").unwrap();
        assert!(matches!(bind(&path), Err(BindError::NotASocket(_))));
        assert!(matches!(bind(dir.path()), Err(BindError::NotASocket(_))));
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(matches!(bind(&link), Err(BindError::NotASocket(_))));
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }

    #[test]
    fn bind_refuses_paths_that_cannot_be() {
        let dir = tempfile::tempdir().unwrap();
        let long = dir.path().join("x".repeat(108));
        let err = bind(&long).unwrap_err();
        assert!(err.to_string().contains("107 are possible"), "{err}");
        let longest = dir.path().join("x".repeat(PATH_MAX - dir.path().as_os_str().len() - 1));
        bind(&longest).unwrap();
        assert!(matches!(bind(dir.path().join("no/where")), Err(BindError::Io { .. })));
        assert!(bind("").is_err());
    }

    #[test]
    fn socket_file_of_somebody_else_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("api.sock");
        let socket = bind(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let other = UnixListener::bind(&path).unwrap();
        drop(socket);
        assert!(path.exists());
        drop(other);
    }
}
