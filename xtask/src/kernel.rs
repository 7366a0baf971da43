//! `cargo xtask kernel`: the host kernel, patched and built.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Result;
use clap::ValueEnum;

use crate::linux::compile::Kernel;
use crate::linux::kconfig::Options;
use crate::linux::series::Series;
use crate::linux::source::{self, Source};
use crate::support::cache;
use crate::support::key::Key;
use crate::support::paths::Paths;

/// Built kernels kept for each configuration.
const KEPT: usize = 4;

/// Build a host kernel: the source, the series of kernel-patches/ and a configuration.
///
/// Prints the path of its bzImage. vmlinux, config and System.map lie beside it,
/// target/artifacts/host-<CONFIG> links there.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Which configuration to build.
    #[arg(long, value_enum, default_value_t = Config::Lab)]
    config: Config,
    #[command(flatten)]
    source: SourceArgs,
    /// Leave the series out: the kernel as it came, under the same configuration.
    #[arg(long)]
    unpatched: bool,
    /// Delete unpacked sources and objects (not the built kernels), then stop.
    #[arg(long, conflicts_with_all = ["config", "kernel_source", "unpatched"])]
    clean: bool,
}

/// Where the kernel's source is.
#[derive(clap::Args, Clone, Default)]
pub(crate) struct SourceArgs {
    /// A kernel source folder or tarball [default: Debian's linux-source-6.12].
    #[arg(long, value_name = "DIR|TARBALL")]
    pub(crate) kernel_source: Option<PathBuf>,
}

/// Configurations of kernels built here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Config {
    /// Everything a prober could use: kcore, ptdump, modules, BPF, kprobes.
    Lab,
    /// What an operator runs: nothing that shows physical memory.
    Shipped,
}

impl Config {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Lab => "lab",
            Self::Shipped => "shipped",
        }
    }
}

pub(crate) fn run(paths: &Paths, args: &Args) -> Result<()> {
    if args.clean {
        return source::forget(paths);
    }
    let dir = ensure(paths, args.config, args.unpatched, args.source.kernel_source.as_deref())?;
    println!("{}", dir.join("bzImage").display());
    Ok(())
}

/// Builds the kernel unless the cache has it; gives the folder it is in.
pub(crate) fn ensure(paths: &Paths, config: Config, unpatched: bool, given: Option<&Path>) -> Result<PathBuf> {
    let source = Source::locate(given)?;
    let series = if unpatched { None } else { Some(Series::read(&paths.repo, &source.version(paths)?)?) };
    let fragments =
        ["nested", config.name()].map(|name| paths.repo.join(format!("kernel-patches/config/{name}.config")));
    let options = Options::read(fragments.iter().map(PathBuf::as_path))?;
    let name = format!("{}{}", config.name(), if unpatched { "-unpatched" } else { "" });

    let key = Key::new("host kernel 1")
        .with("source", source.id())
        .with("series", series.as_ref().map_or(Ok(String::new()), Series::key)?)
        .with("options", options.to_text())
        .with("compiler", source::compiler()?)
        .finish();
    let shelf = paths.cache.join("kernels").join(&name);
    let entry = shelf.join(key);
    let _lock = cache::lock_unless(&paths.cache, &format!("kernel-{name}"), || entry.is_dir())?;
    if !entry.is_dir() {
        let tree = match &series {
            Some(series) => source.patched(paths, series)?,
            None => source.pristine(paths)?,
        };
        Kernel {
            title: format!("host kernel ({name})"),
            suffix: format!("-{name}"),
            tree: &tree,
            options: &options,
            objects: source.objects(paths, &name),
            log: paths.build_logs().join(format!("{name}.log")),
        }
        .build(&entry)?;
    }
    used(&entry);
    cache::prune(&shelf, KEPT)?;
    cache::link(&entry, &paths.artifacts().join(format!("host-{name}")))?;
    Ok(entry)
}

/// Notes that a cache entry was used, so that pruning takes another.
pub(crate) fn used(entry: &Path) {
    // Only the order of pruning depends on it.
    let _ = File::open(entry).and_then(|dir| dir.set_modified(SystemTime::now()));
}
