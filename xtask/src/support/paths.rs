// SPDX-License-Identifier: Apache-2.0
//! Where the repository, the build output and the cache are.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// What programs are built for. Named, so that build scripts and macros are built in another way than these.
pub(crate) const TARGET: &str = "x86_64-unknown-linux-gnu";

/// The places that commands read and write.
#[derive(Debug, Clone)]
pub(crate) struct Paths {
    /// The repository's root.
    pub(crate) repo: PathBuf,
    /// Cargo's output folder.
    pub(crate) target: PathBuf,
    /// Kernels, sources and packages; outside the tree, shared by clones.
    pub(crate) cache: PathBuf,
    /// This program, as it was called (a rebuild may replace it meanwhile).
    pub(crate) xtask: PathBuf,
}

impl Paths {
    pub(crate) fn find() -> Result<Self> {
        let repo = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .filter(|dir| dir.join("kernel-patches").is_dir())
            .context("The repository has moved since xtask was built; run it through cargo xtask")?
            .to_path_buf();
        let target = match env::var_os("CARGO_TARGET_DIR") {
            Some(dir) => env::current_dir().context("Cannot tell the current folder")?.join(dir),
            None => repo.join("target"),
        };
        let cache = cache_root(
            env::var_os("SECRETVMM_CACHE").map(PathBuf::from),
            env::var_os("XDG_CACHE_HOME").map(PathBuf::from),
            env::var_os("HOME").map(PathBuf::from),
        )?;
        if let Some(path) = [&repo, &cache].into_iter().find(|path| !make_can_build_in(path)) {
            bail!("Kernels cannot be built below {}: make wants paths without spaces and colons", path.display());
        }
        create_dir(&cache)?;
        let xtask = env::current_exe().context("Cannot tell where xtask itself is")?;
        Ok(Self { repo, target, cache, xtask })
    }

    /// Statically linked programs of the release build.
    pub(crate) fn release(&self) -> PathBuf {
        self.target.join(TARGET).join("release")
    }

    /// Links to the newest kernels, where tests find them.
    pub(crate) fn artifacts(&self) -> PathBuf {
        self.repo.join("target/artifacts")
    }

    /// Kernel logs of nested hosts.
    pub(crate) fn host_logs(&self) -> PathBuf {
        self.repo.join("target/host-logs")
    }

    /// Build logs of kernels.
    pub(crate) fn build_logs(&self) -> PathBuf {
        self.cache.join("logs")
    }
}

/// Creates a folder and its parents.
pub(crate) fn create_dir(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("Cannot create {}", dir.display()))
}

/// Whether make and the kernel's scripts can work below a path.
fn make_can_build_in(path: &Path) -> bool {
    path.to_str().is_some_and(|path| !path.contains([' ', '\t', '\n', ':', '\'', '"', '$', '#', '%']))
}

/// The cache folder: the project's variable, then the desktop's, then ~/.cache.
fn cache_root(own: Option<PathBuf>, xdg: Option<PathBuf>, home: Option<PathBuf>) -> Result<PathBuf> {
    let root = match (own, xdg, home) {
        (Some(dir), _, _) => dir,
        (None, Some(dir), _) if dir.is_absolute() => dir.join("secretvmm"),
        (None, _, Some(home)) => home.join(".cache/secretvmm"),
        (None, _, None) => bail!("No cache folder: set SECRETVMM_CACHE or HOME"),
    };
    if !root.is_absolute() {
        bail!("SECRETVMM_CACHE must be an absolute path, not {}", root.display());
    }
    Ok(root)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn path(text: &str) -> Option<PathBuf> {
        Some(PathBuf::from(text))
    }

    #[test]
    fn cache_root_own_variable_wins() {
        let root = cache_root(path("/a"), path("/b"), path("/c")).unwrap();
        assert_eq!(root, Path::new("/a"));
    }

    #[test]
    fn cache_root_relative_xdg_is_ignored_as_the_specification_says() {
        let root = cache_root(None, path("b"), path("/c")).unwrap();
        assert_eq!(root, Path::new("/c/.cache/secretvmm"));
    }

    #[test]
    fn make_can_build_in_plain_paths_only() {
        assert!(make_can_build_in(Path::new("/home/me/.cache/secret-vmm_1")));
        for path in ["/home/my name", "/a:b", "/a$b"] {
            assert!(!make_can_build_in(Path::new(path)), "{path}");
        }
    }

    #[test]
    fn cache_root_without_any_variable_or_with_a_relative_one_is_an_error() {
        assert!(cache_root(None, None, None).is_err());
        assert!(cache_root(path("relative"), None, None).is_err());
    }
}
