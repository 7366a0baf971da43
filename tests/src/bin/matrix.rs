// SPDX-License-Identifier: Apache-2.0
//! Runs the matrix of probes inside the nested host: `cargo xtask host -- matrix`.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use secretvmm_tests::matrix::Yama;
use secretvmm_tests::matrix::cell::Cell;
use secretvmm_tests::matrix::expectations;
use secretvmm_tests::matrix::{Moment, Plan, TargetKind, run, verdict};

/// Tries every way to read guest memory, on ordinary and on hidden memory, and compares with what is expected.
///
/// Wants a lab host with two nodes and a pool: `cargo xtask host --nodes 2 --append secretmem=0:128M -- matrix`. Prints
/// a line of JSON for each result, then a table; exits with 1 if any result is not as expected.
#[derive(Parser)]
#[command(version)]
struct Cli {
    /// What to probe [default: all]
    #[arg(long, value_enum)]
    target: Vec<TargetKind>,
    /// When in a guest's life [default: booted]
    #[arg(long, value_enum)]
    moment: Vec<Moment>,
    /// Yama's ptrace_scope: 0, or 3, which stays until the host ends
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8))]
    yama: u8,
    /// Only probes whose name contains this
    filter: Option<String>,
}

fn main() -> ExitCode {
    match probe(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nFAILED: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn probe(cli: &Cli) -> Result<()> {
    let all =
        |given: &[TargetKind]| if given.is_empty() { TargetKind::value_variants().to_vec() } else { given.to_vec() };
    let moments = if cli.moment.is_empty() { vec![Moment::Booted] } else { cli.moment.clone() };
    let yama = if cli.yama == 0 { Yama::Open } else { Yama::NoDebugger };
    let plan = Plan { targets: all(&cli.target), moments, yama, filter: cli.filter.clone() };
    let cells = run(&plan)?;
    print_table(&cells)?;
    verdict(&cells)?;
    println!("Every one of {} cells is as expected.", cells.len());
    Ok(())
}

/// A line for each probe, a column for each target; with a star for what is known to leak.
fn print_table(cells: &[Cell]) -> Result<()> {
    println!();
    for line in expectations::table()? {
        let words = cells.iter().filter(|cell| cell.probe == line.probe).map(Cell::word).collect::<Vec<_>>();
        if !words.is_empty() {
            let star = if line.is_leak() { '*' } else { ' ' };
            println!(
                "{star} {:<44} {}",
                line.probe,
                words.iter().map(|word| format!("{word:<10}")).collect::<String>()
            );
        }
    }
    println!();
    Ok(())
}
