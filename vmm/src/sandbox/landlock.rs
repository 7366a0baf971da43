// SPDX-License-Identifier: Apache-2.0
//! Files, signals and sockets that a thread can no longer reach (landlock(7)).

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, Scope, make_bitflags,
};

use super::files::Files;

/// What is asked of the kernel: files, TCP, ioctl of devices, signals, abstract sockets. An older kernel gives what it has.
const NEWEST: ABI = ABI::V6;

/// Whether this kernel has any of it.
pub(super) fn check() -> Result<(), RulesetError> {
    let oldest = AccessFs::from_all(ABI::V1);
    Ruleset::default().set_compatibility(CompatLevel::HardRequirement).handle_access(oldest)?.create().map(drop)
}

/// Takes from the calling thread, and from those that it starts, all files but these, all that makes or removes files,
/// signals to other processes, abstract sockets of other processes, and TCP. What is open stays open.
pub(super) fn restrict(files: &Files) -> Result<(), RulesetError> {
    let mut rules = Ruleset::default()
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?
        .create()?;
    for (paths, access) in [
        (&files.read, make_bitflags!(AccessFs::{ReadFile | ReadDir})),
        (&files.write, make_bitflags!(AccessFs::{ReadFile | WriteFile})),
        (&files.remove, AccessFs::RemoveFile.into()),
    ] {
        // What is not there is not allowed.
        for (path, at) in paths.iter().filter_map(|path| Some((path, PathFd::new(path).ok()?))) {
            // To list and to remove is a folder's.
            let access: BitFlags<AccessFs> = if path.is_dir() { access } else { access & AccessFs::from_file(NEWEST) };
            if !access.is_empty() {
                rules = rules.add_rule(PathBeneath::new(at, access))?;
            }
        }
    }
    rules.restrict_self().map(drop)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, unsafe_code)] // Signals, abstract sockets.
mod tests {
    use std::fs::{self, File};
    use std::io::{self, ErrorKind};
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
    use std::path::{Path, PathBuf};
    use std::process::Command;

    use super::super::files;
    use super::*;

    /// What works in a thread that may reach these files; it is for the thread's life.
    fn within<T: Send>(files: &Files, act: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                restrict(files).unwrap();
                act()
            });
            thread.join().unwrap()
        })
    }

    fn open(path: impl AsRef<Path>, write: bool) -> Result<(), ErrorKind> {
        File::options().read(true).write(write).open(path).map(drop).map_err(|err| err.kind())
    }

    const DENIED: Result<(), ErrorKind> = Err(ErrorKind::PermissionDenied);

    #[test]
    fn main_thread_reaches_its_own_files_and_no_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["read", "write", "other"] {
            fs::write(path(name), "x").unwrap();
        }
        let files =
            Files { read: vec![path("read"), "/proc".into()], write: vec![path("write"), path("no")], remove: vec![] };
        within(&files, || {
            assert_eq!([open(path("read"), false), open(path("write"), true)], [Ok(()), Ok(())]);
            assert_eq!([open(path("read"), true), open(path("other"), false)], [DENIED, DENIED]);
            assert_eq!([open("/proc/self/status", false), open("/proc/self/mem", true)], [Ok(()), DENIED]);
            assert_eq!(fs::read_dir(folder.path()).map(drop).map_err(|err| err.kind()), DENIED);
            assert_eq!(fs::write(path("new"), "x").map_err(|err| err.kind()), DENIED);
            let cut = File::options().write(true).truncate(true).open(path("write"));
            assert_eq!(cut.map(drop).map_err(|err| err.kind()), DENIED);
            assert_eq!(fs::remove_file(path("other")).map_err(|err| err.kind()), DENIED);
        });
        // The control: it was the thread.
        assert_eq!([open(path("other"), true), open("/proc/self/mem", true)], [Ok(()), Ok(())]);
        within(&Files { remove: vec![folder.path().into()], ..Files::default() }, || {
            fs::remove_file(path("other")).unwrap();
            assert_eq!(open(path("read"), false), DENIED);
        });
    }

    #[test]
    fn disk_that_comes_later_is_anywhere_but_in_the_kernels_file_systems() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files { write: files::anywhere(), ..Files::default() };
        within(&files, || {
            // Named by the file system, as the rules were there before.
            let path = PathBuf::from("/proc/self/mem");
            assert_eq!([open(&path, true), open("/sys/kernel/notes", false)], [DENIED, DENIED]);
        });
        let later = folder.path().join("later");
        fs::write(&later, "x").unwrap();
        assert_eq!(within(&files, || open(&later, true)), Ok(()));
    }

    #[test]
    fn other_process_is_neither_signalled_nor_reached_by_an_abstract_socket() {
        let name = format!("secretvmm-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let _listener = UnixListener::bind_addr(&address).unwrap();
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = child.id().cast_signed();
        // SAFETY: signal 0 only asks.
        let kill = move || match unsafe { libc::kill(pid, 0) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error().kind()),
        };
        let connect = || UnixStream::connect_addr(&address).map(drop).map_err(|err| err.kind());
        assert_eq!([kill(), connect()], [Ok(()), Ok(())]);
        let scoped = within(&Files::default(), || [kill(), connect()]);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(scoped, [DENIED, DENIED]);
    }
}
