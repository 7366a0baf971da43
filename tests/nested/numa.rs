// SPDX-License-Identifier: Apache-2.0
//! Two nodes, the CPU on the first: whatever moves ordinary pages between them leaves secret ones where they are.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use secretmem::memlock;
use secretvmm_tests::area::Area;
use secretvmm_tests::host::numa::{Nodes, on_node, try_to_move};
use secretvmm_tests::host::process::frames_of;
use secretvmm_tests::secret::{self, HUGE_SIZE};
use secretvmm_tests::toy::{Outcome, Program, ToyVm};

use crate::support::on_clean_host;

/// NUMA balancing looks at a process every second, and moves what it sees twice.
const BALANCING_LIMIT: Duration = Duration::from_secs(90);

#[test]
fn secret_memory_comes_from_the_node_that_is_asked_for() -> Result<()> {
    on_clean_host(|| {
        for node in [0, 1] {
            let memory = on_node(node, || touched(secret_memory(false)?))?;
            ensure!(all_on(&memory, node)?, "Not all on node {node}");
        }
        Ok(())
    })
}

#[test]
fn calls_that_move_ordinary_pages_leave_those_of_a_guest() -> Result<()> {
    on_clean_host(|| {
        let control = on_node(0, || touched(Area::ordinary(HUGE_SIZE)?))?;
        try_to_move(&control, 0, 1);
        ensure!(all_on(&control, 1)?, "INVALID: the control was not moved");
        for small in [false, true] {
            let memory = on_node(0, || touched(secret_memory(small)?))?;
            let mut guest = ToyVm::on(&memory)?;
            ensure!(guest.run(Program::Write, 0x8000)? == Outcome::Halted, "The guest does not run");
            let before = frames_of(&memory)?;
            try_to_move(&memory, 0, 1);
            ensure!(frames_of(&memory)? == before, "Secret pages were moved");
            ensure!(guest.run(Program::Write, 0x8000)? == Outcome::Halted, "The guest does not go on");
        }
        Ok(())
    })
}

#[test]
fn balancing_that_moves_ordinary_pages_leaves_secret_ones() -> Result<()> {
    on_clean_host(|| {
        fs::write("/proc/sys/kernel/numa_balancing", "1").context("This kernel does not balance")?;
        let control = on_node(1, || touched(Area::ordinary(HUGE_SIZE)?))?;
        let secret = on_node(1, || touched(secret_memory(false)?))?;
        let small = on_node(1, || touched(secret_memory(true)?))?;
        let before = (frames_of(&secret)?, frames_of(&small)?);
        let deadline = Instant::now() + BALANCING_LIMIT;
        while !all_on(&control, 0)? {
            ensure!(Instant::now() < deadline, "INVALID: the control was not moved in {BALANCING_LIMIT:?}");
            [&control, &secret, &small].iter().for_each(|area| area.touch());
            sleep(Duration::from_millis(10));
        }
        ensure!((frames_of(&secret)?, frames_of(&small)?) == before, "Secret pages were moved");
        Ok(())
    })
}

fn secret_memory(small: bool) -> Result<Area> {
    memlock::make_room(4 * HUGE_SIZE as u64)?;
    let file = secret::file(0, 2 * HUGE_SIZE).context("Cannot create secret memory")?;
    let memory = Area::of_file(&file, 2 * HUGE_SIZE).context("Cannot map it")?;
    if small {
        memory.use_small_pages()?;
    }
    Ok(memory)
}

fn touched(area: Area) -> Result<Area> {
    area.touch();
    Ok(area)
}

/// Whether every page is on a node. One that is on its way counts as elsewhere.
fn all_on(area: &Area, node: u32) -> Result<bool> {
    let nodes = Nodes::read()?;
    Ok(frames_of(area).is_ok_and(|frames| frames.iter().all(|&frame| nodes.of_frame(frame) == Some(node))))
}
