// SPDX-License-Identifier: Apache-2.0
//! Prints the evidence of the demo. Runs inside the nested host: `cargo xtask demo`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Shows that the host cannot read a guest on hidden memory, and that the same probes do read an ordinary one.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Boot both guests, run every probe against both, print what came back; exit with 1 unless the proof holds
    Demo {
        /// Guest RAM
        #[arg(long, default_value = "2G")]
        mem: String,
    },
}

fn main() -> ExitCode {
    let Cli { command: Command::Demo { mem } } = Cli::parse();
    match secretvmm_tests::evidence::demo(&mem) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nFAILED: {error:#}");
            ExitCode::FAILURE
        }
    }
}
