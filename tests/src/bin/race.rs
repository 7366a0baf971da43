// SPDX-License-Identifier: Apache-2.0
//! Starts, kills, forks and robs toy guests on secret memory, thousands of times. Runs inside a nested host.

use std::process::ExitCode;

use clap::Parser;
use secretvmm_tests::race;

/// Races guests on secret memory against their end and against who wants their memory; exit with 1 unless the host is
/// as it was before
#[derive(Parser)]
#[command(version)]
struct Cli {
    /// Toy guests
    #[arg(long, default_value_t = 200)]
    rounds: u64,
    /// Guests of `secretvmm` among them
    #[arg(long, default_value_t = 4)]
    vmm_rounds: u64,
    /// What the course of things is derived from
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match race::run(cli.rounds, cli.vmm_rounds, cli.seed) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("race: error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
