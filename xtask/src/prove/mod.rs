// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask prove`: the witness outside, which needs no cooperation of the host it looks at.
//!
//! ```text
//!  xtask prove ── orders: start, stop, kill a guest ──▶ agent (inside the nested host)
//!       │
//!       └─ QMP: stop, dump, go on ──▶ dump of all physical memory ──▶ secretvmm-proof: who reaches the guest?
//! ```

mod cell;
mod inside;
mod print;
mod qmp;
mod report;
mod scenes;
mod stage;
mod sum;
mod system;

use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use secretvmm_canary::Seed;
use secretvmm_proof::examine::Findings;
use secretvmm_proof::orders::{Answer, Leak, Order, Running};
use secretvmm_proof::verdict::{control_objections, leak_objections, objections};

use crate::host::Host;
use crate::linux::source::SourceArgs;
use crate::prepare::{self, Build};
use crate::setup;
use crate::support::cargo::build_release;
use crate::support::paths::Paths;
use cell::{COUNT, Cell, USUAL};
use stage::{Snapshot, Stage};
use sum::Sum;

/// Prove from three sides that nothing on the host reads the guest.
///
/// Inside the host: every probe of the matrix (tests/matrix/expectations.txt), as root. In its kernel: a module that
/// walks the page tables and reads on every CPU. From outside: stops the nested host while a guest runs, dumps its
/// physical memory, and follows every page table in it: guest frames found, frames that any kernel half reaches, who
/// maps them in user halves, copies elsewhere. Each is done with ordinary memory, too, which must be found, and
/// leaks made on purpose must be seen, or the witness is blind.
///
/// Exits with 0 only if the proof holds; with --memory shared it does not, and shows what was read.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// What the guest's RAM is.
    #[arg(long, value_enum, default_value_t = Memory::Secret)]
    memory: Memory,
    /// One side only, for a quicker look.
    #[arg(long, value_enum)]
    only: Option<Side>,
    /// On every kind of host: 128 MiB to 2 GiB, KASLR on and off, PTI on and off, 1 and 2 CPUs, 4 and 5 levels.
    #[arg(long)]
    all: bool,
    /// On these kinds of host only, by their numbers among all: 0 to 23.
    #[arg(long, value_delimiter = ',', value_name = "N", conflicts_with = "all", value_parser = clap::value_parser!(u32).range(0..i64::from(COUNT)))]
    hosts: Vec<u32>,
    /// Looks at each host, while the guest works.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    snapshots: u32,
    /// Write a report to this folder: one HTML page, with pictures of physical memory.
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    #[command(flatten)]
    source: SourceArgs,
}

/// Where a witness stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Side {
    /// On the host, and in its kernel.
    Inside,
    /// Below the host.
    Outside,
}

/// What the guest's RAM is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Memory {
    /// Hidden memory.
    Secret,
    /// Ordinary memory: the proof must fail.
    Shared,
}

impl Memory {
    fn argument(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::Shared => "shared",
        }
    }
}

pub(crate) fn run(paths: &Paths, args: &Args) -> Result<u8> {
    setup::run(&setup::Args {})?;
    prepare::ensure(paths, &args.source, &[Build::Host(Host::Lab), Build::Guest])?;
    build_release(paths)?;
    let begun = Instant::now();
    let cells: Vec<Cell> = match args.only {
        Some(Side::Inside) => Vec::new(),
        _ if args.all => Cell::all().collect(),
        _ if args.hosts.is_empty() => vec![USUAL],
        _ => args.hosts.iter().filter_map(|number| Cell::all().nth(*number as usize)).collect(),
    };
    let mut sum = Sum::default();
    if args.memory == Memory::Secret && args.only != Some(Side::Outside) {
        println!("== Inside: every probe on ordinary memory and on hidden guests");
        sum.report.matrix = inside::run(paths, &args.source)?;
        sum.objections.extend(inside::objections(&sum.report.matrix));
    }
    for cell in &cells {
        println!("\n== Outside: a host of {cell}");
        witness(paths, args, *cell, &mut sum)?;
    }
    if let Some(folder) = &args.report {
        scenes::draw(paths, &args.source, &mut sum.report)?;
        sum.report.write(folder, &sum.objections)?;
    }
    print::sum(&sum, begun.elapsed());
    Ok(u8::from(!sum.objections.is_empty()))
}

/// The witness outside as a part of the tests, in a process of its own, whose output it gives.
fn outside(paths: &Paths, source: &SourceArgs) -> Command {
    let mut command = Command::new(&paths.xtask);
    command.args(["prove", "--only", "outside"]);
    if let Some(given) = &source.kernel_source {
        command.arg("--kernel-source").arg(given);
    }
    command
}

/// One look at each kind of host, dealt to `count` processes.
pub(crate) fn every_day(paths: &Paths, source: &SourceArgs, count: usize) -> Vec<Command> {
    let hosts =
        |first: usize| (0..COUNT).skip(first).step_by(count).map(|number| number.to_string()).collect::<Vec<_>>();
    let command = |first| {
        let mut command = outside(paths, source);
        command.args(["--hosts", &hosts(first).join(",")]);
        command
    };
    (0..count.min(COUNT as usize)).map(command).collect()
}

/// Twenty looks at each kind of host, and the page.
pub(crate) fn full(paths: &Paths, source: &SourceArgs) -> Vec<Command> {
    let mut command = outside(paths, source);
    command.args(["--all", "--snapshots", "20", "--report"]).arg(paths.target.join("report"));
    vec![command]
}

fn witness(paths: &Paths, args: &Args, cell: Cell, sum: &mut Sum) -> Result<()> {
    let mut stage = Stage::open(paths, Host::Lab, cell.machine(), &args.source)?;
    let size = format!("{}M", cell.guest());
    let running = guest(&mut stage, &size, args.memory)?;
    for _ in 0..args.snapshots {
        let findings = look(&mut stage, &running)?;
        sum.looks.0 += 1;
        sum.frames += findings.guest_frames;
        sum.reachable += findings.reachable;
        sum.add(cell, args.memory.argument(), &findings, objections(&findings, &running));
        if args.memory == Memory::Shared {
            print::read(&findings);
        }
    }
    if args.memory == Memory::Secret {
        for kind in Leak::ALL {
            leak(&mut stage, cell, &running, kind, sum)?;
        }
    }
    stage.order(&Order::Stop)?;
    after(&mut stage, cell, &running, sum)?;
    if args.memory == Memory::Secret {
        let control = guest(&mut stage, &size, Memory::Shared)?;
        let findings = look(&mut stage, &control)?;
        sum.looks.1 += 1;
        sum.add(cell, "control: ordinary memory", &findings, control_objections(&findings, &control));
        stage.order(&Order::Kill)?;
    }
    stage.close()
}

fn guest(stage: &mut Stage, size: &str, memory: Memory) -> Result<Running> {
    println!("   secretvmm --kernel bzImage --mem {size} --backing {}", memory.argument());
    stage.start(&["--mem", size, "--backing", memory.argument()])
}

fn look(stage: &mut Stage, running: &Running) -> Result<Findings> {
    let Snapshot { findings, times } = stage.look(seed(running)?)?;
    print::findings(&findings, running, times);
    Ok(findings)
}

/// When the guest has gone, no canary is left.
fn after(stage: &mut Stage, cell: Cell, running: &Running, sum: &mut Sum) -> Result<()> {
    let left = stage.look(seed(running)?)?.findings;
    println!("   after its end  {} canaries in all memory", left.copies);
    if left.copies > 0 && running.secret_pages > 0 {
        let objection = format!("{} canaries are left when the guest has gone", left.copies);
        sum.add(cell, "after its end", &left, vec![objection]);
    }
    Ok(())
}

/// The control of the witness's eye: one frame is mapped into the kernel on purpose, and exactly that must be found.
fn leak(stage: &mut Stage, cell: Cell, running: &Running, kind: Leak, sum: &mut Sum) -> Result<()> {
    let Answer::Leaked { pfn } = stage.order(&Order::Leak { kind })? else { bail!("The agent made no leak") };
    let findings = stage.look(seed(running)?)?.findings;
    stage.order(&Order::Mend)?;
    sum.looks.1 += 1;
    println!("   control        frame {pfn:#x} leaked by {}: {} found", kind.name(), findings.reachable);
    sum.add(cell, &format!("control: one frame leaked by {}", kind.name()), &findings, leak_objections(&findings, pfn));
    Ok(())
}

fn seed(running: &Running) -> Result<Seed> {
    running.seed.parse().context("The agent named no seed")
}
