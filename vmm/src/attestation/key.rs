// SPDX-License-Identifier: Apache-2.0
//! The file with the key: for its owner alone, made on first use.

use std::fs::{File, Metadata, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use secretvmm_evidence::{KeyError, PrivateKey};
use zeroize::Zeroizing;

/// More than any key has.
const MAX_LEN: u64 = 4096;

/// Why a key is not used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It cannot be read.
    #[error("The attestation key {} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// It cannot be made.
    #[error("The attestation key {} cannot be made", path.display())]
    Create {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A link, folder, FIFO or device.
    #[error("The attestation key {} is not a regular file", .0.display())]
    NotRegular(PathBuf),
    /// Somebody else's.
    #[error("The attestation key {} belongs to user {owner}; it has to be this user's", path.display())]
    Owner {
        /// The file.
        path: PathBuf,
        /// The user it belongs to.
        owner: u32,
    },
    /// Others have a right to it.
    #[error("The attestation key {} has mode {mode:04o}; others may not have any right to it: chmod 600", path.display())]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// Something else is in it.
    #[error("The attestation key {} cannot be used", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: KeyError,
    },
    /// No random numbers.
    #[error("There are no random numbers for a key")]
    Random(#[source] getrandom::Error),
}

/// The key in a file; a new one if there is no file.
pub(super) fn open_or_create(path: &Path) -> Result<PrivateKey, Error> {
    match create(path) {
        Err(Error::Create { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => open(path),
        result => result,
    }
}

/// Makes a file that was not there, for this user alone from its first moment, and whole from its first moment: others
/// may open it just now, and this process may end in between.
fn create(path: &Path) -> Result<PrivateKey, Error> {
    let error = |source| Error::Create { path: path.to_owned(), source };
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(&mut seed[..]).map_err(Error::Random)?;
    let key = PrivateKey::from_seed(&seed);
    let pem = key.to_pem().map_err(|source| Error::Key { path: path.to_owned(), source })?;
    write_new(path, pem.as_bytes()).map_err(error)?;
    log::warn!("A new attestation key was made: {}", path.display());
    Ok(key)
}

/// Writes a file that appears with all of its contents, unless there is one of that name.
fn write_new(path: &Path, contents: &[u8]) -> io::Result<()> {
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if path.symlink_metadata().is_ok() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    let mut file =
        tempfile::Builder::new().prefix(".key-").permissions(Permissions::from_mode(0o600)).tempfile_in(folder)?;
    file.write_all(contents)?;
    file.as_file().sync_all()?;
    // A hard link: of several who make the same key at once, one wins and the others find it.
    file.persist_noclobber(path).map_err(|err| err.error)?;
    File::open(folder)?.sync_all()
}

/// The key in a file that is there.
pub(super) fn open(path: &Path) -> Result<PrivateKey, Error> {
    let error = |source: io::Error| match source.raw_os_error() {
        Some(libc::ELOOP) => Error::NotRegular(path.to_owned()),
        _ => Error::Read { path: path.to_owned(), source },
    };
    // Not waiting for the other end of a FIFO, not following a link that somebody else may change.
    let file =
        File::options().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path).map_err(error)?;
    check(path, &file.metadata().map_err(error)?, rustix::process::geteuid().as_raw())?;
    let mut pem = Zeroizing::new(String::with_capacity(MAX_LEN as usize));
    file.take(MAX_LEN).read_to_string(&mut pem).map_err(error)?;
    PrivateKey::from_pem(&pem).map_err(|source| Error::Key { path: path.to_owned(), source })
}

fn check(path: &Path, metadata: &Metadata, user: u32) -> Result<(), Error> {
    let path = path.to_owned();
    if !metadata.is_file() {
        return Err(Error::NotRegular(path));
    }
    if metadata.uid() != user {
        return Err(Error::Owner { path, owner: metadata.uid() });
    }
    match metadata.mode() & 0o7777 {
        mode if mode & 0o077 != 0 => Err(Error::Mode { path, mode }),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn id(key: &PrivateKey) -> [u8; 32] {
        key.public().id()
    }

    #[test]
    fn open_or_create_makes_a_key_once_for_this_user_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key.pem");
        assert!(matches!(open(&path), Err(Error::Read { .. })));
        let key = open_or_create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        assert_eq!(id(&open_or_create(&path).unwrap()), id(&key));
        let other = open_or_create(&dir.path().join("other.pem")).unwrap();
        assert_ne!(id(&other), id(&key));
    }

    #[test]
    fn open_or_create_by_many_at_once_gives_all_the_same_key() {
        let dir = tempfile::tempdir().unwrap();
        for round in 0..50 {
            let path = dir.path().join(format!("key-{round}"));
            let ids: Vec<_> = std::thread::scope(|scope| {
                let all: Vec<_> = (0..8).map(|_| scope.spawn(|| id(&open_or_create(&path).unwrap()))).collect();
                all.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            assert!(ids.iter().all(|id| *id == ids[0]));
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 50, "Something else was left");
    }

    #[test]
    fn open_key_that_others_may_touch_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key.pem");
        open_or_create(&path).unwrap();
        for mode in [0o640, 0o604, 0o620, 0o601, 0o660, 0o666] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            assert!(matches!(open_or_create(&path), Err(Error::Mode { .. })), "{mode:o}");
        }
        fs::set_permissions(&path, Permissions::from_mode(0o400)).unwrap();
        assert!(open_or_create(&path).is_ok());
        let metadata = fs::metadata(&path).unwrap();
        assert!(matches!(check(&path, &metadata, metadata.uid() + 1), Err(Error::Owner { .. })));
    }

    #[test]
    fn open_what_is_no_file_or_no_key_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let key = open_or_create(&path("key")).unwrap();
        assert_eq!(id(&open(&path("key")).unwrap()), id(&key));
        symlink(path("key"), path("link")).unwrap();
        assert!(matches!(open_or_create(&path("link")), Err(Error::NotRegular(_))));
        symlink(path("nowhere"), path("dangling")).unwrap();
        assert!(open_or_create(&path("dangling")).is_err() && !path("nowhere").exists());
        assert!(matches!(open_or_create(dir.path()), Err(Error::NotRegular(_))));
        assert!(open_or_create(Path::new("/dev/null")).is_err());
        assert!(matches!(open_or_create(&path("no/key")), Err(Error::Create { .. })));
        for text in [&b""[..], b"key", &[0xff; 10000]] {
            fs::write(path("text"), text).unwrap();
            fs::set_permissions(path("text"), Permissions::from_mode(0o600)).unwrap();
            assert!(open_or_create(&path("text")).is_err());
            assert_eq!(fs::read(path("text")).unwrap(), text, "it was written over");
        }
    }
}
