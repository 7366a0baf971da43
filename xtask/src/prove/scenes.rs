// SPDX-License-Identifier: Apache-2.0
//! What the report draws: the memory of a host before, during and after a guest, on three systems.

use anyhow::{Context, Result};
use secretvmm_canary::Seed;
use secretvmm_proof::orders::{Answer, Order, Running};

use super::report::Report;
use super::stage::Stage;
use super::system::{Moments, System};
use crate::host::Host;
use crate::linux::source::SourceArgs;
use crate::nested::MachineArgs;
use crate::support::paths::Paths;

/// Memory that is hidden in each scene, in MiB.
const HIDDEN: u64 = 128;

const SYSTEMS: [System; 3] = [System::Stock, System::Series, System::Pool];

/// Runs all three, and adds them to the report.
pub(super) fn draw(paths: &Paths, source: &SourceArgs, report: &mut Report) -> Result<()> {
    println!(
        "\n== The direct map before, while and after {HIDDEN} MiB of 1 GiB are hidden, in entries of 2M and of 4K"
    );
    for system in SYSTEMS {
        let moments = scene(paths, source, system)?;
        let [before, during, after] = moments.each_ref().map(|found| {
            let [small, large, _] = found.entries;
            format!("{large} + {small}")
        });
        println!("   {:<22} {before:>12} {during:>12} {after:>12}", system.title());
        report.draw(system, moments);
    }
    Ok(())
}

fn scene(paths: &Paths, source: &SourceArgs, system: System) -> Result<Moments> {
    let (host, append) = match system {
        System::Stock => (Host::Stock, String::new()),
        System::Series => (Host::Lab, String::new()),
        System::Pool => (Host::Lab, format!("secretmem={HIDDEN}M")),
    };
    let machine = MachineArgs { mem: "1G".into(), append, ..MachineArgs::default() };
    let mut stage = Stage::open(paths, host, machine, source)?;
    // Its answer says that the host has come up and is at rest.
    stage.order(&Order::Wait)?;
    let before = stage.look(Seed::new(0))?.findings;
    let (running, end) = begin(&mut stage, system)?;
    let seed: Seed = running.seed.parse().context("The agent named no seed")?;
    let during = stage.look(seed)?.findings;
    stage.order(&end)?;
    let after = stage.look(seed)?.findings;
    stage.close()?;
    Ok([before, during, after])
}

/// Starts what is to be seen; gives the order that ends it, too.
fn begin(stage: &mut Stage, system: System) -> Result<(Running, Order)> {
    let size = format!("{HIDDEN}M");
    match system {
        System::Stock => match stage.order(&Order::Hold { mib: HIDDEN })? {
            Answer::Started(running) => Ok((running, Order::Release)),
            other => anyhow::bail!("The agent answered {other:?} instead of holding memory"),
        },
        System::Series => Ok((stage.start(&["--mem", &size])?, Order::Stop)),
        System::Pool => Ok((stage.start(&["--mem", &size, "--backing", "secret,pool=boot"])?, Order::Stop)),
    }
}
