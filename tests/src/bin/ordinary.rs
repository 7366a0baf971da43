// SPDX-License-Identifier: Apache-2.0
//! Holds canary pages in anonymous memory until its input ends: the matrix's plainest control. Runs inside a nested host.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use secretvmm_canary::{PAGE_SIZE, Seed};
use secretvmm_tests::area::Area;

/// Plants canary pages in private anonymous memory, says where, and keeps them.
#[derive(Parser)]
#[command(version)]
struct Cli {
    /// MiB of memory
    #[arg(long, default_value_t = 32)]
    mib: usize,
    /// Canary pages among it
    #[arg(long, default_value_t = 256)]
    pages: usize,
}

/// Between two canary pages lie pages that are all alike, and one that is not there: what merges and what compacts memory finds
/// something to do.
const STEP: usize = 4;

fn main() -> Result<()> {
    let cli = Cli::parse();
    let area = Area::private(cli.mib << 20).context("Cannot map memory")?;
    area.use_small_pages()?;
    area.touch();
    let mut bytes = [0; 8];
    File::open("/dev/urandom").and_then(|file| file.read_exact_at(&mut bytes, 0)).context("Cannot draw a seed")?;
    let seed = Seed::new(u64::from_le_bytes(bytes));
    let offset = |index: usize| (1 + index * STEP) * PAGE_SIZE;
    for index in 0..cli.pages {
        area.put(offset(index), &seed.page(index as u64));
    }
    for page in (STEP - 1..area.length() / PAGE_SIZE).step_by(STEP) {
        area.discard(page * PAGE_SIZE)?;
    }
    // Whether pages may become huge ones is the prober's to ask.
    area.allow_huge_pages()?;
    let (first, last, pages) = (offset(0), offset(cli.pages - 1), cli.pages);
    println!("canary: seed={seed} pages={pages} frames={pages} first_gpa={first:#x} last_gpa={last:#x}");
    io::stdout().flush()?;
    // A process that never runs is not seen by what looks at the one that runs.
    thread::spawn(|| {
        loop {
            thread::sleep(Duration::from_millis(50));
        }
    });
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
