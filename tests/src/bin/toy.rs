// SPDX-License-Identifier: Apache-2.0
//! Runs the smallest guest on ordinary and on secret memory: whether a kernel keeps what it promises of KVM. Runs inside
//! a nested host: `cargo xtask kernel --bisect`.

use std::process::ExitCode;

use anyhow::{Result, ensure};
use nix::errno::Errno;
use secretvmm_tests::toy::{self, Outcome, Ram};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("toy: error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let ordinary = toy::run(Ram::Anonymous)?;
    ensure!(ordinary == Outcome::Halted, "The guest on ordinary memory: {ordinary:?}");
    let expected = if toy::secret_promised()? { Outcome::Halted } else { Outcome::Failed(Errno::EFAULT) };
    let secret = toy::run(Ram::Secret)?;
    ensure!(secret == expected, "The guest on secret memory: {secret:?} instead of {expected:?}");
    println!("{}", if secret == Outcome::Halted { "secret guest runs" } else { "secret guest refused" });
    Ok(())
}
