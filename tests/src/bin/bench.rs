// SPDX-License-Identifier: Apache-2.0
//! Measures what the kernel series is about, and VMMs. Runs inside a nested host: `cargo xtask bench`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use secretvmm_tests::bench::memory::MemoryKind;
use secretvmm_tests::bench::vmm::Setup;
use secretvmm_tests::bench::work::Work;
use secretvmm_tests::bench::{held, row, speed, vmm};
use secretvmm_tests::host::direct_map::DirectMap;

/// Measures and prints a JSON row for each figure.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// What 2 GiB do to the direct map, the TLBs, a guest's stage 2 and the host's own work
    Held {
        /// Folder with the text that the host's work is to search
        #[arg(long)]
        work: PathBuf,
        /// The memory, one after the other
        backings: Vec<MemoryKind>,
    },
    /// How long 1 GiB takes to come and to go
    Speed {
        /// The memory, one after the other
        backings: Vec<MemoryKind>,
    },
    /// A VMM
    Vmm {
        /// The program
        program: PathBuf,
        /// What of it, one after the other
        setups: Vec<Setup>,
    },
    /// The host's own work alone
    Work {
        /// Folder with the text to search
        folder: PathBuf,
    },
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether everything could be measured that this kernel has.
fn run(command: Command) -> Result<bool> {
    match command {
        Command::Held { work, backings } => {
            let work = Work::prepare(&work)?;
            each(backings, |backing| held::measure(backing, &work))
        }
        Command::Speed { backings } => each(backings, speed::measure),
        Command::Vmm { program, setups } => {
            let results: Vec<_> = setups.into_iter().map(|measured| vmm::measure(&program, measured)).collect();
            Ok(results.iter().all(Result::is_ok))
        }
        Command::Work { folder } => {
            row::figure("host", "work_us", Work::prepare(&folder)?.best_us()?)?;
            let map = DirectMap::now()?;
            row::figure("host", "direct_4k_kib", map.kib_4k)?;
            row::figure("host", "direct_2m_kib", map.kib_2m)?;
            row::figure("host", "direct_1g_kib", map.kib_1g)?;
            Ok(true)
        }
    }
}

/// Measures one after the other; one that fails leaves the others their figures.
fn each(backings: Vec<MemoryKind>, measure: impl Fn(MemoryKind) -> Result<()>) -> Result<bool> {
    let mut good = true;
    for backing in backings {
        if let Err(error) = measure(backing) {
            good = false;
            eprintln!("bench: error: {}: {error:#}", backing.name());
            row::absent(backing.name(), "all", "failed")?;
        }
    }
    Ok(good)
}
