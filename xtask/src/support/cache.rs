// SPDX-License-Identifier: Apache-2.0
//! The cache on disk: locks between several xtasks, entries that appear whole
//! or not at all, links to the newest.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use anyhow::{Context, Result, anyhow};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::paths::create_dir;

/// Held while a part of the cache is being changed, or must not be.
pub(crate) struct Lock(#[allow(dead_code)] Flock<File>);

/// Takes the lock `name` for itself, waiting for other builds.
pub(crate) fn lock(cache: &Path, name: &str) -> Result<Lock> {
    take(cache, name, [FlockArg::LockExclusiveNonblock, FlockArg::LockExclusive])
}

/// Takes the lock `name` together with others who only share it.
pub(crate) fn share(cache: &Path, name: &str) -> Result<Lock> {
    take(cache, name, [FlockArg::LockSharedNonblock, FlockArg::LockShared])
}

/// Takes the lock `name` if nobody holds it.
pub(crate) fn try_lock(cache: &Path, name: &str) -> Result<Option<Lock>> {
    let (path, file) = open(cache, name)?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(Lock(lock))),
        Err((_, Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, errno)) => Err(failed(&path, errno)),
    }
}

fn open(cache: &Path, name: &str) -> Result<(PathBuf, File)> {
    let dir = cache.join("locks");
    create_dir(&dir)?;
    let path = dir.join(name);
    let mut options = File::options();
    let file = options.create(true).truncate(false).write(true).open(&path);
    let file = file.with_context(|| format!("Cannot open {}", path.display()))?;
    Ok((path, file))
}

fn failed(path: &Path, errno: Errno) -> anyhow::Error {
    anyhow!(errno).context(format!("Cannot lock {}", path.display()))
}

fn take(cache: &Path, name: &str, [at_once, waiting]: [FlockArg; 2]) -> Result<Lock> {
    let (path, file) = open(cache, name)?;
    match Flock::lock(file, at_once) {
        Ok(lock) => Ok(Lock(lock)),
        Err((file, Errno::EWOULDBLOCK)) => {
            eprintln!("Waiting for another build (it holds {})", path.display());
            Flock::lock(file, waiting).map(Lock).map_err(|(_, errno)| failed(&path, errno))
        }
        Err((_, errno)) => Err(failed(&path, errno)),
    }
}

/// Takes the lock `name` unless there is nothing to do.
pub(crate) fn lock_unless(cache: &Path, name: &str, done: impl Fn() -> bool) -> Result<Option<Lock>> {
    if done() { Ok(None) } else { lock(cache, name).map(Some) }
}

/// Entries of one kind.
pub(crate) struct Shelf<'a> {
    /// The cache, whose lock `lock` is held while one is made.
    pub(crate) cache: &'a Path,
    pub(crate) lock: &'a str,
    /// Where they are.
    pub(crate) dir: PathBuf,
    /// How many are kept: those that were used last.
    pub(crate) kept: usize,
}

impl Shelf<'_> {
    /// Makes the entry `key` unless it is there; gives the folder it is in.
    pub(crate) fn entry(&self, key: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
        let entry = self.dir.join(key);
        let _lock = lock_unless(self.cache, self.lock, || entry.is_dir())?;
        if !entry.is_dir() {
            make(&entry)?;
        }
        // Only the order of pruning depends on it.
        let _ = File::open(&entry).and_then(|dir| dir.set_modified(SystemTime::now()));
        prune(&self.dir, self.kept)?;
        Ok(entry)
    }
}

/// A folder to build an entry in. It is thrown away unless published. Its maker
/// holds a lock, so that drafts found are those of xtasks that were killed.
pub(crate) struct Draft {
    dir: PathBuf,
    entry: PathBuf,
}

impl Draft {
    pub(crate) fn new(entry: &Path) -> Result<Self> {
        let mut name = entry.file_name().context("A cache entry needs a name")?.to_owned();
        name.push(".draft");
        let dir = entry.with_file_name(name);
        remove(&dir)?;
        create_dir(&dir)?;
        Ok(Self { dir, entry: entry.to_path_buf() })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.dir
    }

    /// Makes the draft the entry, in one rename.
    pub(crate) fn publish(self) -> Result<()> {
        remove(&self.entry)?;
        fs::rename(&self.dir, &self.entry).with_context(|| format!("Cannot create {}", self.entry.display()))
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // After publish() there is nothing left; else a later draft cleans up.
        let _ = remove(&self.dir);
    }
}

/// Removes a file, link or folder if it is there. Others may be removing it, too.
pub(crate) fn remove(path: &Path) -> Result<()> {
    while let Ok(meta) = fs::symlink_metadata(path) {
        let result = if meta.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
        match result {
            // It, or a part of it, is gone already.
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("Cannot remove {}", path.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Points `link` at `target`, replacing an older link in one step.
pub(crate) fn link(target: &Path, link: &Path) -> Result<()> {
    if let Some(dir) = link.parent() {
        create_dir(dir)?;
    }
    if fs::symlink_metadata(link).is_ok_and(|meta| meta.is_dir()) {
        remove(link)?;
    }
    // Threads, too, link to the same kernel at once.
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let fresh = link.with_extension(format!("new-{}-{}", process::id(), NUMBER.fetch_add(1, Ordering::Relaxed)));
    remove(&fresh)?;
    symlink(target, &fresh)
        .and_then(|()| fs::rename(&fresh, link))
        .with_context(|| format!("Cannot create the link {}", link.display()))
}

/// Keeps the `keep` entries of `dir` that were used last.
pub(crate) fn prune(dir: &Path, keep: usize) -> Result<()> {
    let Ok(folder) = File::open(dir) else { return Ok(()) };
    // One at a time: a folder that another one is removing looks as if it had just been used.
    let _lock = Flock::lock(folder, FlockArg::LockExclusive).map_err(|(_, errno)| failed(dir, errno))?;
    let entries = fs::read_dir(dir).with_context(|| format!("Cannot read {}", dir.display()))?;
    let mut found: Vec<(SystemTime, PathBuf)> =
        entries.flatten().filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path()))).collect();
    found.sort();
    let old = found.len().saturating_sub(keep);
    found[..old].iter().try_for_each(|(_, path)| remove(path))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn link_many_at_once_all_succeed_and_leave_one() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("link");
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..200).for_each(|_| link(Path::new("/target"), &place).unwrap()));
            }
        });
        assert_eq!(fs::read_link(&place).unwrap(), Path::new("/target"));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn draft_dropped_leaves_nothing_and_published_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let entry = dir.path().join("lab-1");
        drop(Draft::new(&entry).unwrap());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);

        let draft = Draft::new(&entry).unwrap();
        fs::write(draft.path().join("bzImage"), "x").unwrap();
        draft.publish().unwrap();
        assert_eq!(fs::read(entry.join("bzImage")).unwrap(), b"x");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn link_replaces_links_and_old_folders() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("a/host-lab");
        create_dir(&at).unwrap();
        link(Path::new("/one"), &at).unwrap();
        link(Path::new("/two"), &at).unwrap();
        assert_eq!(fs::read_link(&at).unwrap(), Path::new("/two"));
    }

    #[test]
    fn prune_many_at_once_all_succeed_and_keep_the_same() {
        let dir = tempfile::tempdir().unwrap();
        for round in 0..50 {
            for number in 0..20 {
                fs::write(dir.path().join(format!("{round}-{number}.log")), "x").unwrap();
                create_dir(&dir.path().join(format!("{round}-{number}/a/b"))).unwrap();
            }
            std::thread::scope(|scope| {
                let all: Vec<_> = (0..4).map(|_| scope.spawn(|| prune(dir.path(), 3))).collect();
                all.into_iter().for_each(|one| one.join().unwrap().unwrap());
            });
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
        }
    }

    #[test]
    fn prune_keeps_what_was_used_last() {
        let dir = tempfile::tempdir().unwrap();
        for (name, used) in [("a", 2), ("b", 1), ("c", 3)] {
            create_dir(&dir.path().join(name)).unwrap();
            let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(used);
            File::open(dir.path().join(name)).unwrap().set_modified(time).unwrap();
        }
        prune(dir.path(), 2).unwrap();
        let mut left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["a", "c"]);
    }
}
