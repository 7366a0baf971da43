// SPDX-License-Identifier: Apache-2.0
//! From the start of the process to the guest's first process.

use std::fs;

use anyhow::{Context, Result};
use serde_json::json;

use super::process::Process;
use super::trace::{FALLOCATE_ENTER, FALLOCATE_EXIT, Trace};
use super::{Bench, INIT_LINE};

/// A mapping of so many KiB is guest RAM.
const GUEST_RAM_KIB: u64 = 16 << 10;

pub(super) fn measure(bench: &Bench) -> Result<()> {
    let config = json!({
        "boot-source": bench.boot_source(""),
        "machine-config": bench.machine(),
        "drives": [],
    });
    let file = bench.path(&format!("boot-{}.json", bench.measured));
    fs::write(&file, config.to_string())?;
    let file = file.to_str().context("A path without text")?;
    let arguments = ["--no-api", "--config-file", file, "--id", "bench"];

    // The first run brings files into the page cache.
    for _ in 0..2 {
        Process::start(bench, arguments)?.expect(INIT_LINE)?;
    }
    let mut process = Process::start(bench, arguments)?;
    process.expect(INIT_LINE)?;
    bench.figure("boot_ns", u64::try_from(process.started.elapsed().as_nanos())?)?;
    bench.figure("pss_kib", pss_without_guest(process.pid())?)?;
    drop(process);

    let (mut process, counters) = Process::start_counted(bench, arguments)?;
    process.expect(INIT_LINE)?;
    bench.figure("exits", counters.exits.read()?)?;
    bench.figure("page_faults", counters.page_faults.read()?)?;
    bench.figure("system_calls", counters.system_calls.read()?)?;
    drop(process);

    if bench.memory.is_none() {
        // Nothing is populated before the guest runs.
        return Ok(());
    }
    let trace = Trace::begin(&[FALLOCATE_ENTER, FALLOCATE_EXIT])?;
    let mut process = Process::start(bench, arguments)?;
    process.expect(INIT_LINE)?;
    bench.figure("fill_us", trace.end()?.microseconds_between("sys_enter", "sys_exit")?)
}

/// The proportional share of all memory that the process maps, its guest's RAM left out.
fn pss_without_guest(pid: u32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps")).context("Cannot read the VMM's mappings")?;
    let mut sum = 0;
    let mut guest = false;
    for line in text.lines() {
        match line.split_once(':') {
            Some(("Size", value)) => guest = kib(value)? >= GUEST_RAM_KIB,
            Some(("Pss", value)) if !guest => sum += kib(value)?,
            _ => {}
        }
    }
    Ok(sum)
}

fn kib(value: &str) -> Result<u64> {
    value.trim().trim_end_matches(" kB").parse().context("Not a size")
}
