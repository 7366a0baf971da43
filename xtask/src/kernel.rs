// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask kernel`: the host kernel, patched and built.

use anyhow::Result;

use crate::bisect;
use crate::linux::kernel::{self as build, Config};
use crate::linux::source::{self, SourceArgs};
use crate::support::paths::Paths;

/// Build a host kernel: the source, the series of kernel-patches/ and a configuration.
///
/// Prints the path of its bzImage. vmlinux, config, System.map and, but for the
/// shipped one, the test module secretvmm_witness.ko lie beside it,
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
    /// Build and boot the series patch by patch, with the smallest configuration; print a line a step. Begins with the
    /// source as it came, or with so many patches.
    #[arg(long, value_name = "PATCHES", num_args = 0..=1, require_equals = true, default_missing_value = "0",
          conflicts_with_all = ["config", "unpatched"])]
    bisect: Option<usize>,
    /// Delete unpacked sources and objects (not the built kernels), then stop.
    #[arg(long, conflicts_with_all = ["config", "kernel_source", "unpatched", "bisect"])]
    clean: bool,
}

pub(crate) fn run(paths: &Paths, args: &Args) -> Result<u8> {
    if args.clean {
        return source::forget(paths).map(|()| 0);
    }
    if let Some(first) = args.bisect {
        return bisect::run(paths, &args.source, first);
    }
    let dir = build::ensure(paths, args.config, args.unpatched, args.source.kernel_source.as_deref())?;
    println!("{}", dir.join("bzImage").display());
    Ok(0)
}
