// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask`: the developer commands of secretvmm, one file each.

mod bench;
mod bisect;
mod ci;
#[cfg(test)]
mod circles;
mod demo;
mod guest;
mod host;
mod image;
mod kernel;
mod linux;
mod matrix;
mod mutate;
mod nested;
mod prepare;
mod prove;
mod python;
mod reference;
mod setup;
mod suites;
mod support;
mod test;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use support::paths::Paths;

/// Developer commands of secretvmm.
///
/// `demo` does everything from nothing: packages, kernels, the nested host and
/// the evidence. `test` runs all tests. The rest are their parts.
///
/// Kernels are kept in $SECRETVMM_CACHE (default: ~/.cache/secretvmm) and found
/// again by a hash of source, patches and configuration.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Setup(setup::Args),
    Kernel(kernel::Args),
    Guest(guest::Args),
    Image(image::Args),
    Host(host::Args),
    Reference(reference::Args),
    Demo(demo::Args),
    Test(test::Args),
    Mutate(mutate::Args),
    Prove(prove::Args),
    Bench(bench::Args),
    Ci(ci::Args),
    /// The nested host's first process; not for people.
    #[command(name = nested::INSIDE, hide = true)]
    Inside,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Command::Inside = cli.command {
        return nested::inside::main();
    }
    match run(cli.command) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let failure = error.downcast_ref::<nested::Failure>();
            // Nobody reads on: as for any program in a pipe, no news.
            if !failure.is_some_and(nested::Failure::is_closed_pipe) {
                eprintln!("xtask: error: {error:#}");
            }
            ExitCode::from(failure.map_or(1, nested::Failure::exit_code))
        }
    }
}

fn run(command: Command) -> Result<u8> {
    let paths = Paths::find()?;
    match command {
        Command::Setup(args) => setup::run(&args).map(|()| 0),
        Command::Kernel(args) => kernel::run(&paths, &args),
        Command::Guest(args) => guest::run(&paths, &args).map(|()| 0),
        Command::Image(args) => image::run(&paths, &args).map(|()| 0),
        Command::Host(args) => host::run(&paths, &args),
        Command::Reference(args) => reference::run(&paths, &args).map(|()| 0),
        Command::Demo(args) => demo::run(&paths, &args),
        Command::Test(args) => test::run(&paths, &args),
        Command::Mutate(args) => mutate::run(&paths, &args),
        Command::Prove(args) => prove::run(&paths, &args),
        Command::Bench(args) => bench::run(&paths, &args),
        Command::Ci(args) => ci::run(&paths, &args),
        Command::Inside => Ok(0),
    }
}
