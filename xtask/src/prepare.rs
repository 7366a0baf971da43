// SPDX-License-Identifier: Apache-2.0
//! What takes long to make, made beside each other: each kernel's build has stretches
//! that keep only one CPU busy, and so has cargo's.

use std::thread::{self, JoinHandle};

use anyhow::{Result, anyhow};

use crate::guest;
use crate::host::{self, Host};
use crate::linux::selftests;
use crate::linux::source::SourceArgs;
use crate::linux::stock::{self, Flavour};
use crate::suites::NestedSuite;
use crate::support::paths::Paths;
use crate::support::progress;

/// One thing that nested hosts need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Build {
    /// A nested host's kernel.
    Host(Host),
    /// The demo guest.
    Guest,
    /// The kernel's selftests.
    Selftests,
    /// Debian's cloud kernel, as a guest.
    Cloud,
}

impl Build {
    fn ensure(self, paths: &Paths, source: &SourceArgs) -> Result<()> {
        let given = source.kernel_source.as_deref();
        match self {
            Self::Host(host) => host::ensure(paths, host, source),
            Self::Guest => guest::ensure(paths, given).map(drop),
            Self::Selftests => selftests::ensure(paths, given).map(drop),
            Self::Cloud => stock::ensure(paths, Flavour::Cloud).map(drop),
        }
    }
}

/// What the suites use: their hosts' kernels and these kernels' selftests, guests.
pub(crate) fn builds_of<'a>(suites: impl Iterator<Item = &'a NestedSuite>) -> Vec<Build> {
    let mut builds = vec![Build::Guest, Build::Selftests, Build::Cloud];
    for suite in suites {
        let host = Build::Host(suite.host);
        if !builds.contains(&host) {
            builds.push(host);
        }
    }
    builds
}

/// Makes all of `builds` that the cache does not have.
pub(crate) fn ensure(paths: &Paths, source: &SourceArgs, builds: &[Build]) -> Result<()> {
    progress::in_lines();
    thread::scope(|scope| {
        let started: Vec<_> = builds.iter().map(|build| scope.spawn(|| build.ensure(paths, source))).collect();
        let results: Vec<_> =
            started.into_iter().map(|build| build.join().unwrap_or_else(|_| Err(panicked()))).collect();
        results.into_iter().collect()
    })
}

/// `builds` being made while something else goes on. When xtask ends, they end.
pub(crate) struct Background(JoinHandle<Result<()>>);

impl Background {
    pub(crate) fn start(paths: &Paths, source: &SourceArgs, builds: Vec<Build>) -> Self {
        let (paths, source) = (paths.clone(), source.clone());
        Self(thread::spawn(move || ensure(&paths, &source, &builds)))
    }

    /// Waits until they are made.
    pub(crate) fn finish(self) -> Result<()> {
        self.0.join().unwrap_or_else(|_| Err(panicked()))
    }
}

fn panicked() -> anyhow::Error {
    anyhow!("A build panicked")
}
