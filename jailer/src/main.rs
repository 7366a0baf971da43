// SPDX-License-Identifier: Apache-2.0
//! `secretvmm-jailer`: starts `secretvmm` in a jail of its own.
//!
//! The command line, the folder of the jail and what is in it are those of
//! Firecracker's jailer, so that what calls that one can call this one.

// They wait for whoever reads, and panic when nobody does.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use error_reporter::Report;

mod cgroup;
mod cli;
mod devices;
mod error;
mod executable;
mod jail;
mod launch;
mod limits;
mod made;
mod plan;
mod process;
mod root;
mod times;

use crate::plan::Plan;
use crate::times::Times;

/// Nothing was started.
const FAILURE: u8 = 1;

fn main() -> ExitCode {
    let times = Times::at_start();
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(err) => {
            // Help and version are no errors, and clap knows where each goes.
            let _ = err.print();
            return ExitCode::from(u8::try_from(err.exit_code()).unwrap_or(2));
        }
    };
    match Plan::new(&cli).and_then(|plan| launch::run(&plan, times)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            // Nobody may be there to read it.
            let _ = writeln!(std::io::stderr(), "secretvmm-jailer: error: {}", Report::new(&err));
            ExitCode::from(FAILURE)
        }
    }
}
