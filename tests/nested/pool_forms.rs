// SPDX-License-Identifier: Apache-2.0
//! Two nodes, and a command line with every form of `secretmem=` (xtask/src/suites.rs): forms that make no sense leave
//! no pool, the last one counts, a node that is not there is left out, sizes are rounded up to 2 MiB.

use std::fs;

use anyhow::{Context, Result, ensure};
use secretmem::memlock;
use secretvmm_tests::area::Area;
use secretvmm_tests::host::direct_map::meminfo_bytes;
use secretvmm_tests::host::fdinfo;
use secretvmm_tests::host::kernel_log::KernelLog;
use secretvmm_tests::host::numa::Nodes;
use secretvmm_tests::host::process::frame_at;
use secretvmm_tests::secret::{self, HUGE_SIZE, POOL};

use crate::support::on_clean_host;

/// What the last form asks for on each node: 64M, and 33M rounded up.
const SIZES: [u64; 2] = [64 << 20, 34 << 20];

#[test]
fn pool_has_what_each_node_was_asked_for_and_gives_the_nearest_first() -> Result<()> {
    on_clean_host(|| {
        let total = SIZES.iter().sum::<u64>();
        ensure!(meminfo_bytes("SecretPoolTotal:")? == Some(total), "The pool is not {total} bytes");
        memlock::make_room(total)?;
        let file = secret::file(POOL, usize::try_from(total)?)?;
        secret::populate(&file, 0, total as i64)?;
        ensure!(fdinfo::of_file(&file)?.direct_mapped == 0, "Some of it is in the direct map");

        let memory = Area::of_file(&file, usize::try_from(total)?)?;
        let nodes = Nodes::read()?;
        let mut order = Vec::new();
        for offset in (0..memory.length()).step_by(HUGE_SIZE) {
            memory.put(offset, &[1]);
            let frame = frame_at(std::process::id(), memory.address() + offset as u64)?.context("There is no page")?;
            order.push(nodes.of_frame(frame).context("A frame of no node")?);
        }
        // The CPU is on node 0.
        let on_first = usize::try_from(SIZES[0])? / HUGE_SIZE;
        ensure!(order.iter().take(on_first).all(|&node| node == 0), "Not the nearest first: {order:?}");
        ensure!(order.iter().skip(on_first).all(|&node| node == 1), "Not the other node then: {order:?}");
        Ok(())
    })
}

#[test]
fn forms_that_make_no_sense_are_named_in_the_kernel_log() -> Result<()> {
    let log = KernelLog::from_start()?.messages()?;
    let count = |words: &str| log.iter().filter(|line| line.contains(words)).count();
    let line = fs::read_to_string("/proc/cmdline").context("Cannot read the command line")?;
    let forms = line.split_ascii_whitespace().filter(|word| word.split('=').next() == Some("secretmem")).count();
    ensure!(forms > 5, "INVALID: the command line has no bad forms: {line}");
    // All but the last.
    ensure!(count("secretmem= not understood, there will be no pool") == forms - 1, "{log:#?}");
    ensure!(
        count("secretmem: no room for a pool of 67108864 bytes") == 1,
        "Nothing is said of the node that is not there"
    );
    ensure!(count("secretmem: pool of 98 MB") == 1, "The pool is not announced");
    Ok(())
}
