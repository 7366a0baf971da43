// SPDX-License-Identifier: Apache-2.0
//! The kernel's source: Debian's package, a tarball or a folder; unpacked once
//! into the cache, and once more (hard-linked) with the series on it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result, bail};

use super::series::Series;
use crate::support::cache::{self, Draft, Lock};
use crate::support::key::Key;
use crate::support::paths::Paths;
use crate::support::process;
use crate::support::progress::Progress;

/// The Debian package that `setup` installs, and its tarball.
pub(crate) const PACKAGE: &str = "linux-source-6.12";
const TARBALL: &str = "/usr/src/linux-source-6.12.tar.xz";

/// Register tables of one graphics driver: a fifth of the source's bytes, read
/// by no kernel built here.
const LEFT_OUT: &str = "--exclude=*/asic_reg";

/// Where the kernel's source is.
#[derive(clap::Args, Clone, Default)]
pub(crate) struct SourceArgs {
    /// A kernel source folder or tarball, of a version that kernel-patches/ has a series for
    /// [default: Debian's linux-source-6.12].
    #[arg(long, value_name = "DIR|TARBALL")]
    pub(crate) kernel_source: Option<PathBuf>,
}

/// Where a source comes from. Nothing is unpacked yet.
pub(crate) struct Source {
    path: PathBuf,
    folder: bool,
    id: String,
}

/// Guards unpacked sources: shared by those who build from one. A patched one has a lock
/// of its own besides, so that to patch it waits for nobody who builds from another.
const LOCK: &str = "source";

/// An unpacked source. It stays as it is while this lives.
pub(crate) struct Tree {
    pub(crate) dir: PathBuf,
    _locks: Vec<Lock>,
}

impl Source {
    /// Finds `given`, or Debian's package.
    pub(crate) fn locate(given: Option<&Path>) -> Result<Self> {
        let path = match given {
            Some(path) => path.canonicalize().with_context(|| format!("No kernel source at {}", path.display()))?,
            None => PathBuf::from(TARBALL),
        };
        let meta = fs::metadata(&path)
            .with_context(|| format!("No kernel source at {}; cargo xtask setup installs {PACKAGE}", path.display()))?;
        let folder = meta.is_dir();
        let key = Key::new("source 1").with("path", path.as_os_str().as_encoded_bytes());
        let key = if folder { with_folder(key, &path)? } else { with_metadata(key, &meta) };
        Ok(Self { path, folder, id: key.finish() })
    }

    /// Tells sources apart: path, sizes and times of modification.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// `6.12`: which series belongs to it. Unpacks the source the first time.
    pub(crate) fn version(&self, paths: &Paths) -> Result<String> {
        let note = paths.cache.join("versions").join(&self.id);
        if let Ok(version) = fs::read_to_string(&note) {
            return Ok(version);
        }
        let makefile = self.pristine(paths)?.dir.join("Makefile");
        let text = fs::read_to_string(&makefile).with_context(|| format!("Cannot read {}", makefile.display()))?;
        let version = version_of(&text).with_context(|| format!("{} is no kernel source", self.path.display()))?;
        crate::support::paths::create_dir(&paths.cache.join("versions"))?;
        fs::write(&note, &version).with_context(|| format!("Cannot write {}", note.display()))?;
        Ok(version)
    }

    /// The source as it came.
    pub(crate) fn pristine(&self, paths: &Paths) -> Result<Tree> {
        let dir = self.folder_of(paths).join("pristine");
        loop {
            let lock = cache::share(&paths.cache, LOCK)?;
            if dir.is_dir() {
                return Ok(Tree { dir, _locks: vec![lock] });
            }
            drop(lock);
            let _lock = cache::lock(&paths.cache, LOCK)?;
            self.unpack(paths)?;
        }
    }

    /// The source with the series applied, in `folder`. When the series changes, exactly
    /// the files whose content changes get new times of modification, so that objects
    /// built from the others are kept.
    pub(crate) fn patched(&self, paths: &Paths, folder: &str, series: &Series) -> Result<Tree> {
        let dir = self.folder_of(paths).join(folder);
        let key = series.key()?;
        let name = format!("{LOCK}-{folder}");
        let Tree { dir: pristine, mut _locks } = self.pristine(paths)?;
        loop {
            let lock = cache::share(&paths.cache, &name)?;
            if applied(&dir).first() == Some(&key) {
                _locks.push(lock);
                return Ok(Tree { dir, _locks });
            }
            drop(lock);
            let _lock = cache::lock(&paths.cache, &name)?;
            if applied(&dir).first() != Some(&key) {
                patch(&pristine, &dir, series)?;
            }
        }
    }

    /// Where this source's objects go, a folder a kernel.
    pub(crate) fn objects(&self, paths: &Paths, kernel: &str) -> PathBuf {
        self.folder_of(paths).join("objects").join(kernel)
    }

    fn folder_of(&self, paths: &Paths) -> PathBuf {
        paths.cache.join("source").join(&self.id)
    }

    /// Two sources are kept unpacked, so that two versions can be worked on in turn: this one and the one that
    /// changed last. Each takes gigabytes.
    fn forget_others(&self, paths: &Paths) -> Result<()> {
        let Ok(entries) = fs::read_dir(paths.cache.join("source")) else { return Ok(()) };
        let others = entries.flatten().filter(|entry| entry.file_name() != self.id.as_str());
        let mut others: Vec<_> =
            others.map(|entry| (entry.metadata().and_then(|meta| meta.modified()).ok(), entry)).collect();
        others.sort_by_key(|(modified, _)| *modified);
        others.pop();
        others.iter().try_for_each(|(_, entry)| cache::remove(&entry.path()))
    }

    /// Unpacks the source unless it is there; the caller holds the lock.
    fn unpack(&self, paths: &Paths) -> Result<()> {
        let dir = self.folder_of(paths).join("pristine");
        if dir.is_dir() {
            return Ok(());
        }
        self.forget_others(paths)?;
        let draft = Draft::new(&dir)?;
        let log = draft.path().with_extension("log");
        let mut progress = Progress::start(format!("unpack {}", self.path.display()));
        let mut command = Command::new("sh");
        if self.folder {
            if self.path.join(".config").exists() {
                bail!("{} has been built in; run make mrproper there", self.path.display());
            }
            command.args(["-c", "tar -C \"$0\" --exclude=./.git \"$2\" -cf - . | tar -C \"$1\" -xf -"]);
        } else {
            command.args(["-c", "tar -C \"$1\" --strip-components=1 \"$2\" -xf \"$0\""]);
        }
        command.arg(&self.path).arg(draft.path()).arg(LEFT_OUT);
        let result = process::logged(&mut command, &log, &mut progress, |_| false, "");
        progress.finish("");
        result?;
        cache::remove(&log)?;
        draft.publish()
    }
}

/// Makes a patched tree anew; the caller holds its locks.
fn patch(pristine: &Path, dir: &Path, series: &Series) -> Result<()> {
    let key = series.key()?;
    let before = applied(dir).into_iter().skip(1);
    let draft = Draft::new(dir)?;
    process::output(Command::new("cp").arg("-al").arg("--").arg(pristine.join(".")).arg(draft.path()))?;
    series.apply(draft.path())?;
    let touched = series.touched()?;
    before.chain(touched.iter().cloned()).try_for_each(|file| date(&dir.join(&file), &draft.path().join(&file)))?;
    let state = format!("{key}\n{}\n", touched.join("\n"));
    fs::write(draft.path().join(APPLIED), state).context("Cannot note the applied series")?;
    draft.publish()
}

/// In a patched tree: the series' key, then the files it changed.
const APPLIED: &str = ".series-applied";

fn applied(dir: &Path) -> Vec<String> {
    let note = fs::read_to_string(dir.join(APPLIED)).unwrap_or_default();
    note.lines().map(str::to_owned).collect()
}

/// Deletes every unpacked source with its objects, once nobody builds from one.
pub(crate) fn forget(paths: &Paths) -> Result<()> {
    let _lock = cache::lock(&paths.cache, LOCK)?;
    cache::remove(&paths.cache.join("source"))
}

/// Adds what tells one version of a file from another without reading it.
fn with_metadata(key: Key, meta: &fs::Metadata) -> Key {
    let modified = meta.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    key.with("size", meta.size().to_le_bytes()).with("modified", modified.as_nanos().to_le_bytes())
}

/// Adds every file of a source folder, by name, size and time.
fn with_folder(mut key: Key, dir: &Path) -> Result<Key> {
    let entries = fs::read_dir(dir).with_context(|| format!("Cannot read {}", dir.display()))?;
    let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).filter(|name| name != ".git").collect();
    names.sort();
    for name in names {
        let path = dir.join(&name);
        let meta = fs::symlink_metadata(&path).with_context(|| format!("Cannot read {}", path.display()))?;
        key = key.with("name", name.as_encoded_bytes());
        key = if meta.is_dir() { with_folder(key, &path)? } else { with_metadata(key, &meta) };
    }
    Ok(key)
}

/// Gives the file `new` the time of `old` if their contents agree, else a new
/// time. Either way it is a file of its own: `new` may be a hard link.
fn date(old: &Path, new: &Path) -> Result<()> {
    let Ok(content) = fs::read(new) else { return Ok(()) };
    let inode = |path: &Path| fs::metadata(path).map(|meta| meta.ino()).ok();
    if inode(old) == inode(new) {
        return Ok(());
    }
    let copy = new.with_extension("dated");
    let dated = match fs::read(old) {
        Ok(before) if before == content => fs::hard_link(old, &copy),
        _ => fs::copy(new, &copy).map(drop),
    };
    dated.and_then(|()| fs::rename(&copy, new)).with_context(|| format!("Cannot date {}", new.display()))
}

/// `VERSION = 6`, `PATCHLEVEL = 12` → `6.12`.
fn version_of(makefile: &str) -> Option<String> {
    let value = |name: &str| {
        makefile.lines().find_map(|line| {
            let (left, right) = line.split_once('=')?;
            (left.trim() == name).then(|| right.trim().to_owned())
        })
    };
    Some(format!("{}.{}", value("VERSION")?, value("PATCHLEVEL")?))
}

/// The compiler's version: a different one gives different kernels.
pub(crate) fn compiler() -> Result<String> {
    process::output(Command::new("gcc").arg("-dumpfullversion").stderr(Stdio::null()))
        .context("No C compiler; cargo xtask setup installs it")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tempfile::TempDir;

    use super::*;
    use crate::support::paths::create_dir;

    #[test]
    fn version_of_reads_the_makefile_head() {
        let makefile = "# SPDX\nVERSION = 6\nPATCHLEVEL = 12\nSUBLEVEL = 117\nEXTRAVERSION =\n";
        assert_eq!(version_of(makefile).as_deref(), Some("6.12"));
        assert_eq!(version_of("all:\n"), None);
    }

    /// A source of two files, a repository with a series for it, and a cache.
    struct Fixture {
        root: PathBuf,
        paths: Paths,
        _folder: TempDir,
    }

    impl Fixture {
        fn new() -> Self {
            let folder = TempDir::new().unwrap();
            let root = folder.path().to_owned();
            for dir in ["linux/mm", "repo/kernel-patches/6.12", "cache"] {
                create_dir(&root.join(dir)).unwrap();
            }
            fs::write(root.join("linux/Makefile"), "VERSION = 6\nPATCHLEVEL = 12\n").unwrap();
            fs::write(root.join("linux/mm/a.c"), "a\n").unwrap();
            fs::write(root.join("linux/mm/b.c"), "b\n").unwrap();
            let paths = Paths {
                repo: root.join("repo"),
                target: root.join("target"),
                cache: root.join("cache"),
                xtask: PathBuf::new(),
            };
            Self { root, paths, _folder: folder }
        }

        /// Makes the series one patch that changes `file` from `old` to `new`.
        fn series(&self, file: &str, old: &str, new: &str) -> Series {
            let dir = self.root.join("repo/kernel-patches/6.12");
            let patch = format!("Why.\n---\n--- a/{file}\n+++ b/{file}\n@@ -1 +1 @@\n-{old}\n+{new}\n");
            fs::write(dir.join("0001-x.patch"), patch).unwrap();
            fs::write(dir.join("series"), "0001-x.patch\n").unwrap();
            Series::read(&self.paths.repo, "6.12").unwrap()
        }

        fn source(&self) -> Source {
            Source::locate(Some(&self.root.join("linux"))).unwrap()
        }
    }

    #[test]
    fn patched_changes_only_what_the_series_says_and_never_the_pristine_tree() {
        let fixture = Fixture::new();
        let source = fixture.source();
        assert_eq!(source.version(&fixture.paths).unwrap(), "6.12");

        let tree = source.patched(&fixture.paths, "patched", &fixture.series("mm/a.c", "a", "A")).unwrap();
        let dir = tree.dir.clone();
        drop(tree);
        let modified = |file: &str| fs::metadata(dir.join(file)).unwrap().modified().unwrap();
        let (a, makefile) = (modified("mm/a.c"), modified("Makefile"));
        assert_eq!(fs::read(dir.join("mm/a.c")).unwrap(), b"A\n");
        assert_eq!(fs::read(source.pristine(&fixture.paths).unwrap().dir.join("mm/a.c")).unwrap(), b"a\n");

        // A file that is no longer patched is new to make, too.
        source.patched(&fixture.paths, "patched", &fixture.series("mm/b.c", "b", "B")).unwrap();
        assert_eq!(fs::read(dir.join("mm/a.c")).unwrap(), b"a\n");
        assert_eq!(fs::read(dir.join("mm/b.c")).unwrap(), b"B\n");
        assert!(modified("mm/a.c") > a);

        // Another patch to the same end is none to make.
        let b = modified("mm/b.c");
        let patch = fixture.root.join("repo/kernel-patches/6.12/0001-x.patch");
        fs::write(&patch, format!("Another message.\n{}", fs::read_to_string(&patch).unwrap())).unwrap();
        source.patched(&fixture.paths, "patched", &Series::read(&fixture.paths.repo, "6.12").unwrap()).unwrap();
        assert_eq!(modified("mm/b.c"), b);
        assert_eq!(modified("Makefile"), makefile);
    }

    #[test]
    fn patched_that_does_not_apply_names_patch_and_version_and_leaves_nothing() {
        let fixture = Fixture::new();
        let source = fixture.source();
        let error = source
            .patched(&fixture.paths, "patched", &fixture.series("mm/a.c", "other", "A"))
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains("0001-x.patch does not apply to Linux 6.12"), "{error}");
        let left = fs::read_dir(source.folder_of(&fixture.paths)).unwrap().flatten().map(|entry| entry.file_name());
        assert_eq!(left.collect::<Vec<_>>(), ["pristine"]);
    }

    #[test]
    fn pristine_keeps_this_source_and_the_one_that_changed_last() {
        let fixture = Fixture::new();
        let mut folders = Vec::new();
        for content in ["1", "22", "333"] {
            fs::write(fixture.root.join("linux/mm/a.c"), content).unwrap();
            let source = fixture.source();
            source.pristine(&fixture.paths).unwrap();
            folders.push(source.folder_of(&fixture.paths));
        }
        assert_eq!(folders.iter().map(|folder| folder.is_dir()).collect::<Vec<_>>(), [false, true, true]);
    }

    #[test]
    fn id_of_a_folder_changes_with_its_files() {
        let fixture = Fixture::new();
        let before = fixture.source().id;
        fs::write(fixture.root.join("linux/mm/a.c"), "longer\n").unwrap();
        assert_ne!(fixture.source().id, before);
    }
}
