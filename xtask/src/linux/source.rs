//! The kernel's source: Debian's package, a tarball or a folder; unpacked once
//! into the cache, and once more (hard-linked) with the series on it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result, bail};

use super::series::Series;
use crate::support::cache::{self, Draft};
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

/// Where a source comes from. Nothing is unpacked yet.
pub(crate) struct Source {
    path: PathBuf,
    folder: bool,
    id: String,
}

/// An unpacked source.
pub(crate) struct Tree {
    pub(crate) dir: PathBuf,
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
        let _lock = cache::lock(&paths.cache, "build")?;
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
        if !dir.is_dir() {
            self.forget_others(paths)?;
            self.unpack(&dir)?;
        }
        Ok(Tree { dir })
    }

    /// The source with the series applied. A changed series gives new times of
    /// modification to exactly the files it changes or changed before, so that
    /// objects built from the others are kept.
    pub(crate) fn patched(&self, paths: &Paths, series: &Series) -> Result<Tree> {
        let pristine = self.pristine(paths)?;
        let dir = self.folder_of(paths).join("patched");
        let (key, marker) = (series.key()?, dir.join(".series-applied"));
        let before = fs::read_to_string(&marker).unwrap_or_default();
        let mut before = before.lines();
        if before.next() == Some(key.as_str()) {
            return Ok(Tree { dir });
        }
        let draft = Draft::new(&dir)?;
        process::output(Command::new("cp").arg("-al").arg("--").arg(pristine.dir.join(".")).arg(draft.path()))?;
        series.apply(draft.path())?;
        before.try_for_each(|file| renew(&draft.path().join(file)))?;
        let state = format!("{key}\n{}\n", series.touched()?.join("\n"));
        fs::write(draft.path().join(".series-applied"), state).context("Cannot note the applied series")?;
        draft.publish()?;
        Ok(Tree { dir })
    }

    /// Where this source's objects go, a folder a kernel.
    pub(crate) fn objects(&self, paths: &Paths, kernel: &str) -> PathBuf {
        self.folder_of(paths).join("objects").join(kernel)
    }

    fn folder_of(&self, paths: &Paths) -> PathBuf {
        paths.cache.join("source").join(&self.id)
    }

    /// One source at a time is kept unpacked: each takes gigabytes.
    fn forget_others(&self, paths: &Paths) -> Result<()> {
        let Ok(entries) = fs::read_dir(paths.cache.join("source")) else { return Ok(()) };
        entries
            .flatten()
            .filter(|entry| entry.file_name() != self.id.as_str())
            .try_for_each(|entry| cache::remove(&entry.path()))
    }

    fn unpack(&self, dir: &Path) -> Result<()> {
        let draft = Draft::new(dir)?;
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

/// Replaces a hard-linked file by a copy of itself with a new time.
fn renew(path: &Path) -> Result<()> {
    if !path.is_file() {
        return Ok(());
    }
    let copy = path.with_extension("renewed");
    fs::copy(path, &copy)
        .and_then(|_| fs::rename(&copy, path))
        .with_context(|| format!("Cannot renew {}", path.display()))
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
    use super::*;

    #[test]
    fn version_of_reads_the_makefile_head() {
        let makefile = "# SPDX\nVERSION = 6\nPATCHLEVEL = 12\nSUBLEVEL = 117\nEXTRAVERSION =\n";
        assert_eq!(version_of(makefile).as_deref(), Some("6.12"));
        assert_eq!(version_of("all:\n"), None);
    }
}
