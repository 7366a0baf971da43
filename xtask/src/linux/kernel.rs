// SPDX-License-Identifier: Apache-2.0
//! The host's kernels: their configurations, and how each is made.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::ValueEnum;

use super::compile::{Kernel, Module};
use super::kconfig::Options;
use super::series::{self, Fragment, Series};
use super::source::{self, Source};
use crate::support::cache::{self, Shelf};
use crate::support::key::Key;
use crate::support::paths::Paths;

/// Built kernels kept for each configuration.
const KEPT: usize = 4;

/// Configurations of kernels built here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Config {
    /// Everything a prober could use: kcore, ptdump, modules, BPF, kprobes.
    Lab,
    /// What an operator runs: nothing that shows physical memory.
    Shipped,
    /// The lab with KASAN, lockdep and kmemleak.
    Debug,
}

impl Config {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Lab => "lab",
            Self::Shipped => "shipped",
            Self::Debug => "debug",
        }
    }

    /// The test module that is built for it: where modules can be loaded.
    fn witness(self, paths: &Paths) -> Option<Module> {
        match self {
            Self::Lab | Self::Debug => Some(Module::witness(paths)),
            Self::Shipped => None,
        }
    }

    /// Its fragments in kernel-patches/config, in the order in which they are merged. The version's own comes last.
    fn fragments(self) -> &'static [&'static str] {
        match self {
            Self::Lab => &["nested", "lab"],
            Self::Shipped => &["nested", "shipped"],
            Self::Debug => &["nested", "lab", "debug"],
        }
    }

    fn options(self, paths: &Paths, version: &str) -> Result<Options> {
        host_options(paths, self.fragments(), version)
    }
}

/// Options of a host kernel: fragments in kernel-patches/config, and the one of the version.
pub(crate) fn host_options(paths: &Paths, fragments: &[&str], version: &str) -> Result<Options> {
    let file = |name: &&str| paths.repo.join(format!("kernel-patches/config/{name}.config"));
    let mut files: Vec<PathBuf> = fragments.iter().map(file).collect();
    files.push(series::fragment(&paths.repo, version, Fragment::Host)?);
    Options::read(files.iter().map(PathBuf::as_path))
}

/// Builds the kernel unless the cache has it; gives the folder it is in.
pub(crate) fn ensure(paths: &Paths, config: Config, unpatched: bool, given: Option<&Path>) -> Result<PathBuf> {
    let source = Source::locate(given)?;
    let version = source.version(paths)?;
    let series = if unpatched { None } else { Some(Series::read(&paths.repo, &version)?) };
    let name = format!("{}{}", config.name(), if unpatched { "-unpatched" } else { "" });
    let options = config.options(paths, &version)?;
    let module = config.witness(paths);
    let recipe = Recipe { name: name.clone(), folder: "patched", source: &source, series, options, module, kept: KEPT };
    let entry = recipe.ensure(paths)?;
    cache::link(&entry, &paths.artifacts().join(format!("host-{name}")))?;
    Ok(entry)
}

/// What a lab kernel with a mutation in it is called.
pub(crate) const MUTANT: &str = "mutant";

/// Builds the lab's kernel with `mutation` behind the series unless the cache has it; gives the folder it is in.
pub(crate) fn mutant(paths: &Paths, given: Option<&Path>, mutation: &Path) -> Result<PathBuf> {
    let source = Source::locate(given)?;
    let version = source.version(paths)?;
    let recipe = Recipe {
        name: MUTANT.into(),
        folder: MUTANT,
        source: &source,
        series: Some(Series::read(&paths.repo, &version)?.with(mutation)),
        options: Config::Lab.options(paths, &version)?,
        module: Config::Lab.witness(paths),
        kept: KEPT,
    };
    let entry = recipe.ensure(paths)?;
    cache::link(&entry, &paths.artifacts().join(format!("host-{MUTANT}")))?;
    Ok(entry)
}

/// What a host kernel is made of.
pub(crate) struct Recipe<'a> {
    /// Its folder in the cache, and what its release ends with.
    pub(crate) name: String,
    /// The source tree that is patched for it.
    pub(crate) folder: &'static str,
    pub(crate) source: &'a Source,
    /// None: the source as it came.
    pub(crate) series: Option<Series>,
    pub(crate) options: Options,
    /// Built for this kernel and kept beside it.
    pub(crate) module: Option<Module>,
    /// Built kernels of this name that are kept.
    pub(crate) kept: usize,
}

impl Recipe<'_> {
    /// Whether the cache has it.
    pub(crate) fn is_cached(&self, paths: &Paths) -> Result<bool> {
        Ok(self.folder(paths).join(self.key()?).is_dir())
    }

    fn key(&self) -> Result<String> {
        Ok(Key::new("host kernel 1")
            .with("source", self.source.id())
            .with("series", self.series.as_ref().map_or(Ok(String::new()), Series::key)?)
            .with("options", self.options.to_text())
            .with("module", self.module.as_ref().map_or(Ok(String::new()), Module::key)?)
            .with("compiler", source::compiler()?)
            .finish())
    }

    fn folder(&self, paths: &Paths) -> PathBuf {
        paths.cache.join("kernels").join(&self.name)
    }

    /// Builds it unless the cache has it; gives the folder it is in.
    pub(crate) fn ensure(&self, paths: &Paths) -> Result<PathBuf> {
        let lock = format!("kernel-{}", self.name);
        let shelf = Shelf { cache: &paths.cache, lock: &lock, dir: self.folder(paths), kept: self.kept };
        shelf.entry(&self.key()?, |entry| {
            let tree = match &self.series {
                Some(series) => self.source.patched(paths, self.folder, series)?,
                None => self.source.pristine(paths)?,
            };
            Kernel {
                title: format!("host kernel ({})", self.name),
                suffix: format!("-{}", self.name),
                tree: &tree,
                options: &self.options,
                module: self.module.as_ref(),
                objects: self.source.objects(paths, &self.name),
                log: paths.build_logs().join(format!("{}.log", self.name)),
            }
            .build(entry)
        })
    }
}
