// SPDX-License-Identifier: Apache-2.0
//! Attacks a VMM with hostile guests, one seed after the other, and prints a line for each.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use secretvmm_hostile::{Attack, Backing, Company, End};

/// Attack a VMM with hostile guests, one seed after the other.
#[derive(Parser)]
struct Args {
    /// The VMM.
    #[arg(long, value_name = "PATH")]
    program: PathBuf,
    /// What guest memory is made of.
    #[arg(long, value_enum, default_value = "shared")]
    backing: Backing,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many seeds.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// How long each may take.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// How many rounds of 500 steps each goes at most.
    #[arg(long, default_value_t = u64::MAX)]
    rounds: u64,
    /// Only this kind of round: 0 mix, 1 resets, 2 queues, 3 ports, 4 registers, 5 connections, 6 metadata, 7 long chains.
    #[arg(long)]
    round: Option<u64>,
    /// How the machine ends after the last round.
    #[arg(long, value_enum, default_value = "terminate")]
    end: End,
    /// Who does something on the host's side.
    #[arg(long, value_enum, default_value = "everybody")]
    company: Company,
}

#[allow(clippy::print_stdout)]
fn main() -> Result<ExitCode> {
    let args = Args::parse();
    let (mut operations, mut failed) = (0, 0);
    for seed in args.seed..args.seed + args.seeds {
        let attack = Attack {
            rounds: args.rounds,
            round: args.round,
            end: args.end,
            company: args.company,
            ..Attack::new(args.program.clone(), args.backing, seed, Duration::from_secs(args.seconds))
        };
        let outcome = attack.run()?;
        operations += outcome.operations;
        println!("seed {seed}: {outcome}");
        if let Err(err) = outcome.judge(&attack) {
            failed += 1;
            println!("seed {seed}: FAILED: {err:#}");
        }
    }
    println!("{} seeds, {operations} operations, {failed} failed", args.seeds);
    Ok(ExitCode::from(u8::from(failed > 0)))
}
