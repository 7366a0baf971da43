// SPDX-License-Identifier: Apache-2.0
//! Starts and ends guests as `cargo xtask prove` says, line by line. Runs inside the nested host.

use std::io::{stdin, stdout};
use std::process::ExitCode;

fn main() -> ExitCode {
    match secretvmm_tests::agent::serve(stdin().lock(), stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("agent: error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
