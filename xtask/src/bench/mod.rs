// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask bench`: figures, measured on nested hosts and printed as one table.

mod hosts;
mod rows;
mod table;
mod vmm;

use std::path::PathBuf;

use anyhow::Result;

use crate::linux::source::Source;
use crate::linux::source::SourceArgs;
use crate::setup;
use crate::support::cargo::build_release;
use crate::support::paths::Paths;

/// Measure on nested hosts, and print a table.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// Secret memory without the series, with it, from the boot pool, and huge pages beside them.
    ///
    /// Boots several hosts one after the other. Exits with 0 if everything could be measured that the kernels have,
    /// whatever the figures are: a target that was missed is marked.
    Kernel {
        #[command(flatten)]
        source: SourceArgs,
    },
    /// The VMM: its start, its memory, its devices and its requests.
    ///
    /// Boots one host that counts instructions. Exits with 0 if everything could be measured, whatever the figures are:
    /// a target that was missed is marked.
    Vmm {
        /// Another VMM with Firecracker's flags and API, for a second column.
        #[arg(long, value_name = "PATH")]
        against: Option<PathBuf>,
        #[command(flatten)]
        source: SourceArgs,
    },
}

pub(crate) fn run(paths: &Paths, args: &Args) -> Result<u8> {
    setup::run(&setup::Args {})?;
    match &args.what {
        What::Kernel { source } => kernel(paths, source),
        What::Vmm { against, source } => vmm::run(paths, source, against.as_deref()),
    }
}

fn kernel(paths: &Paths, source: &SourceArgs) -> Result<u8> {
    build_release(paths)?;
    let text = Source::locate(source.kernel_source.as_deref())?.pristine(paths)?.dir.join("kernel");
    let results = hosts::measure_all(paths, source, &text)?;
    print!("{}", table::render(&results));
    Ok(u8::from(results.trouble().is_some()))
}
