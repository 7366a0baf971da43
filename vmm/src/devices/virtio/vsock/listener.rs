//! Unix sockets in the file system.

use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

/// The longest path, which ends with a NUL in `sockaddr_un` (unix(7)).
const PATH_MAX: usize = 107;
/// Clients that wait for the VMM to look.
const BACKLOG: i32 = 128;

/// Why a socket cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The kernel has no room for such a path.
    #[error("The path has {0} bytes, and a socket's at most {PATH_MAX}; use a shorter or a relative one")]
    TooLong(usize),
    /// A path with a NUL, or none.
    #[error("The path is empty or contains a NUL")]
    Invalid,
    /// Somebody answers there.
    #[error("Another process listens there; stop it or use another path")]
    Busy,
    /// The path is taken by something else.
    #[error("There is something that is no socket; remove it or use another path")]
    NoSocket,
    /// Anything else.
    #[error("The socket could not be made")]
    Io(#[from] io::Error),
}

/// A listening socket that only this user can connect to. Its file goes with it.
#[derive(Debug)]
pub(super) struct Listener {
    socket: UnixListener,
    path: PathBuf,
    /// Device and inode, by which the file is recognised.
    identity: (u64, u64),
}

impl Listener {
    /// Listens at `path`, where a socket that nobody listens on gives way.
    ///
    /// # Errors
    /// See [`Error`].
    pub(super) fn bind(path: &Path) -> Result<Self, Error> {
        check(path)?;
        let socket = match bind(path) {
            Err(err) if err.kind() == ErrorKind::AddrInUse => {
                remove_stale(path)?;
                bind(path)?
            }
            other => other?,
        };
        let identity = identity(path)?;
        socket.listen(BACKLOG)?;
        Ok(Self { socket: OwnedFd::from(socket).into(), path: path.to_owned(), identity })
    }

    /// The next client, which never blocks.
    pub(super) fn accept(&self) -> io::Result<UnixStream> {
        let (client, _) = self.socket.accept()?;
        client.set_nonblocking(true)?;
        Ok(client)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Whoever took the path over meanwhile keeps it.
        if identity(&self.path).is_ok_and(|identity| identity == self.identity)
            && let Err(err) = fs::remove_file(&self.path)
        {
            log::debug!("{} stays behind: {err}", self.path.display());
        }
    }
}

/// Connects to a listener without waiting for it: one whose queue is full is one that is not there.
pub(super) fn connect(path: &Path) -> Result<UnixStream, Error> {
    check(path)?;
    let socket = unbound()?;
    socket.connect(&SockAddr::unix(path)?)?;
    Ok(OwnedFd::from(socket).into())
}

fn check(path: &Path) -> Result<(), Error> {
    let bytes = path.as_os_str().as_bytes();
    match bytes.len() {
        0 => Err(Error::Invalid),
        // A leading NUL would mean the abstract namespace, where every user may connect.
        _ if bytes.contains(&0) => Err(Error::Invalid),
        1..=PATH_MAX => Ok(()),
        len => Err(Error::TooLong(len)),
    }
}

fn unbound() -> io::Result<Socket> {
    // Close-on-exec by itself.
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn bind(path: &Path) -> io::Result<Socket> {
    let socket = File::from(OwnedFd::from(unbound()?));
    // Linux gives the file the mode of the socket (unix_bind_bsd()), so that it is never wider,
    // without a umask, which would be the whole process's.
    socket.set_permissions(Permissions::from_mode(0o600))?;
    let socket = Socket::from(OwnedFd::from(socket));
    socket.bind(&SockAddr::unix(path)?)?;
    Ok(socket)
}

/// Removes a socket whose listener is gone.
fn remove_stale(path: &Path) -> Result<(), Error> {
    if !fs::symlink_metadata(path)?.file_type().is_socket() {
        return Err(Error::NoSocket);
    }
    match connect(path) {
        Err(Error::Io(err)) if err.kind() == ErrorKind::ConnectionRefused => {}
        Ok(_) => return Err(Error::Busy),
        // Its queue of clients is full.
        Err(Error::Io(err)) if err.kind() == ErrorKind::WouldBlock => return Err(Error::Busy),
        Err(err) => return Err(err),
    }
    log::debug!("Nobody listens at {} any more: it is replaced", path.display());
    Ok(fs::remove_file(path)?)
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn socket_is_private_and_goes_with_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("v.sock");
        let listener = Listener::bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        connect(&path).unwrap();
        drop(listener);
        assert!(!path.exists());
    }

    #[test]
    fn stale_socket_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("v.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let listener = Listener::bind(&path).unwrap();
        assert!(matches!(Listener::bind(&path), Err(Error::Busy)));
        while connect(&path).is_ok() {}
        drop(listener);
    }

    #[test]
    fn live_socket_with_a_full_queue_is_busy() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("v.sock");
        let _listener = Listener::bind(&path).unwrap();
        let _clients: Vec<_> = std::iter::from_fn(|| connect(&path).ok()).collect();
        assert!(matches!(Listener::bind(&path), Err(Error::Busy)));
    }

    #[test]
    fn path_that_is_taken_too_long_or_odd_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "mine").unwrap();
        assert!(matches!(Listener::bind(&file), Err(Error::NoSocket)));
        assert_eq!(fs::read(&file).unwrap(), b"mine");
        assert!(matches!(Listener::bind(&dir.path().join("x".repeat(200))), Err(Error::TooLong(201..))));
        assert!(matches!(Listener::bind(Path::new("\0abstract")), Err(Error::Invalid)));
        assert!(matches!(Listener::bind(Path::new("")), Err(Error::Invalid)));
        assert!(matches!(Listener::bind(&dir.path().join("no/such")), Err(Error::Io(_))));
    }

    #[test]
    fn file_that_another_process_made_meanwhile_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("v.sock");
        let listener = Listener::bind(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let _other = UnixListener::bind(&path).unwrap();
        drop(listener);
        assert!(path.exists());
    }
}
