// SPDX-License-Identifier: Apache-2.0
//! Holds secret memory until its input ends, and says in one line what it got. Runs inside a nested host, for tests of
//! limits, rights and what must not move.

use std::fs::File;
use std::io::{self, Read, Write};
use std::process::ExitCode;

use clap::Parser;
use nix::errno::Errno;
use secretmem::memlock;
use secretvmm_tests::area::Area;
use secretvmm_tests::host::fdinfo;
use secretvmm_tests::secret;

/// Populates secret memory, prints `held` or the call that failed with its errno, and keeps what it has.
#[derive(Parser)]
#[command(version)]
struct Cli {
    /// MiB of it
    #[arg(long)]
    mib: usize,
    /// Flags of memfd_secret(2), a number
    #[arg(long, default_value_t = 0)]
    flags: u32,
    /// Touch it through a mapping instead of fallocate(2); in 4 KiB pages
    #[arg(long)]
    touch: bool,
    /// Close the descriptor and keep the mapping
    #[arg(long)]
    close: bool,
}

/// The call that failed.
struct Failed(&'static str, Errno);

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hold: error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> io::Result<()> {
    let length = cli.mib << 20;
    // As far as it may: who tests the limit has fixed it.
    let _ = memlock::make_room(length as u64);
    let mut file = secret::create(cli.flags).map_err(|errno| Failed("create", errno));
    let mut area = None;
    let result =
        file.as_ref().map_err(|failed| Failed(failed.0, failed.1)).and_then(|file| fill(file, length, cli.touch));
    let info = file.as_ref().ok().and_then(|file| fdinfo::of_file(file).ok()).unwrap_or_default();
    let said = match result {
        Ok(mapped) => {
            area = Some(mapped);
            "held".to_owned()
        }
        Err(Failed(call, errno)) => format!("{call} {errno:?}"),
    };
    if cli.close {
        file = Err(Failed("close", Errno::UnknownErrno));
    }
    let address = area.as_ref().map_or(0, Area::address);
    println!("{said} pages={} huge={} pool={} address={address:#x}", info.pages, info.huge, info.pool);
    io::stdout().flush()?;
    io::stdin().read_to_end(&mut Vec::new())?;
    drop((file, area));
    Ok(())
}

fn fill(file: &File, length: usize, touch: bool) -> Result<Area, Failed> {
    let size = i64::try_from(length).map_err(|_| Failed("size", Errno::EFBIG))?;
    nix::unistd::ftruncate(file, size).map_err(|errno| Failed("ftruncate", errno))?;
    let area = Area::of_file(file, length).map_err(|errno| Failed("mmap", errno))?;
    if touch {
        area.use_small_pages().map_err(|errno| Failed("madvise", errno))?;
    } else {
        secret::populate(file, 0, size).map_err(|errno| Failed("fallocate", errno))?;
    }
    // By the kernel's hand, so that what cannot be had is an errno and no signal.
    (0..length)
        .step_by(4096)
        .try_for_each(|offset| area.try_write(offset, 1))
        .map_err(|errno| Failed("touch", errno))?;
    Ok(area)
}
