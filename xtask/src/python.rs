// SPDX-License-Identifier: Apache-2.0
//! Programs from the Python package index, each with what it depends on in an environment of its own.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::support::cache::{self, Draft, Shelf};
use crate::support::key::Key;
use crate::support::paths::Paths;
use crate::support::process;
use crate::support::progress::Progress;

/// Debian's own, which the pinned packages are for.
const PYTHON: &str = "/usr/bin/python3";
const KEPT: usize = 2;

/// The package lists in tests/python.
#[derive(Clone, Copy)]
pub(crate) enum Packages {
    /// A public Firecracker client.
    Firecracker,
    /// Property-based requests from an OpenAPI description.
    Schemathesis,
}

impl Packages {
    fn name(self) -> &'static str {
        match self {
            Self::Firecracker => "firecracker",
            Self::Schemathesis => "schemathesis",
        }
    }
}

/// Installs the packages unless the cache has them; gives the environment's python.
pub(crate) fn ensure(paths: &Paths, packages: Packages) -> Result<PathBuf> {
    let name = packages.name();
    let list = paths.repo.join(format!("tests/python/{name}.txt"));
    let version =
        process::output(Command::new(PYTHON).arg("--version")).context("No Python; cargo xtask setup installs it")?;
    let key = Key::new("python environment 1").with("python", version).with_file("packages", &list)?.finish();
    let lock = format!("python-{name}");
    let shelf = Shelf { cache: &paths.cache, lock: &lock, dir: paths.cache.join("python").join(name), kept: KEPT };
    let entry = shelf.entry(&key, |entry| install(paths, name, &list, entry))?;
    cache::link(&entry, &paths.artifacts().join(format!("python-{name}")))?;
    Ok(entry.join("bin/python"))
}

fn install(paths: &Paths, name: &str, list: &Path, entry: &Path) -> Result<()> {
    let draft = Draft::new(entry)?;
    let log = paths.build_logs().join(format!("python-{name}.log"));
    cache::remove(&log)?;
    let mut progress = Progress::start(format!("Python packages ({name})"));
    let mut environment = Command::new(PYTHON);
    environment.args(["-m", "venv"]).arg(draft.path());
    // Through python and not as `pip`: what is in bin/ has the draft's path inside.
    let mut install = Command::new(draft.path().join("bin/python"));
    install.args(["-m", "pip", "install", "--require-hashes", "--only-binary=:all:", "--requirement"]).arg(list);
    for command in [&mut environment, &mut install] {
        process::logged(command, &log, &mut progress, |_| false, "")
            .with_context(|| format!("Cannot install the Python packages of {}", list.display()))?;
    }
    progress.finish("");
    draft.publish()
}
