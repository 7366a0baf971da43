// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask bench vmm`: the VMM's figures on hidden memory, beside another VMM's if one is given.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::rows::Rows;
use crate::guest;
use crate::host::{self, Host, Job};
use crate::linux::source::SourceArgs;
use crate::nested::{self, Capture, Failure, MachineArgs};
use crate::support::cache;
use crate::support::cargo::{build_release, build_static, cargo};
use crate::support::paths::Paths;
use crate::support::process;

/// A host takes a minute or two; one that takes so long stands still.
const LIMIT: Duration = Duration::from_secs(10 * 60);
/// QEMU 7.2 that counts instructions sometimes executes none any more, while it looks for the next one for ever.
const ATTEMPTS: u32 = 3;

/// What must be reached: of the 168 million instructions that a current Firecracker on ordinary memory needed from
/// process start to the guest's init, measured once on this kind of host, nine tenths; and three quarters of its 4 MiB.
const BOOT_TARGET: f64 = 168.0 * 0.9;
const PSS_TARGET_KIB: f64 = 3.0 * 1024.0;

/// Time is 2 ns an instruction (`-icount shift=1`).
const NS_PER_INSTRUCTION: f64 = 2.0;

/// The columns: what `bench vmm` calls them, and what the table does.
const OURS: (&str, &str) = ("ours", "secretvmm");
const POOL: (&str, &str) = ("pool", "boot pool");
const WHOLE: (&str, &str) = ("whole", "whole");
const AGAINST: (&str, &str) = ("against", "against");

const HEADER: &str = "\
Nested host counting instructions, 2 ns each; 1 vCPU, 128 MiB, our guest kernel as vmlinux, an initrd of busybox.
secretvmm runs on hidden memory, which is populated beside the guest. \"boot pool\": the same on a host with secretmem=,
whose pages are zero already. \"whole\": populate=all, which zeroes everything before the guest runs; the emulator counts
each byte of a rep stosb. \"missed\" marks a target that was not reached. The targets go by a Firecracker on ordinary
memory, measured once: 168 million instructions to init, 4096 KiB of its own memory.
";

/// Boots the host, measures, prints the table; the exit code says whether everything could be measured.
pub(super) fn run(paths: &Paths, source: &SourceArgs, against: Option<&Path>) -> Result<u8> {
    let against = against.map(|path| path.canonicalize().with_context(|| format!("No VMM at {}", path.display())));
    let against = against.transpose()?;
    build_release(paths)?;
    guest::ensure(paths, source.kernel_source.as_deref())?;
    let load = build_static(paths, "secretvmm-load", "load")?;
    let folder = load.parent().context("A program without a folder")?;
    cache::link(folder, &paths.artifacts().join("load"))?;

    let ours = paths.release().join("secretvmm");
    let mut runs = vec![Run { program: &ours, setups: &[OURS.0, WHOLE.0], append: "" }];
    runs.push(Run { program: &ours, setups: &[POOL.0], append: "secretmem=512M" });
    runs.extend(against.as_deref().map(|program| Run { program, setups: &[AGAINST.0], append: "" }));
    let (mut rows, mut complete) = (Rows::default(), true);
    for run in &runs {
        let (measured, whole) = measure(paths, source, run)?;
        rows.extend(measured);
        complete &= whole;
    }

    let title = ["", OURS.1, POOL.1, WHOLE.1, AGAINST.1, "must reach"].map(str::to_owned);
    let mut lines = vec![title];
    lines.extend(FIGURES.iter().map(|figure| figure.line(&rows)));
    lines.push(sizes("binary, KiB", kib(&ours)?, against.as_deref().map(kib).transpose()?));
    lines.push(sizes("packages in the tree", packages(paths)?, None));
    if against.is_none() {
        lines.iter_mut().for_each(|line| line[4].clear());
    }
    println!("{HEADER}\n{}", super::table::aligned(lines));
    Ok(u8::from(!complete))
}

/// What one host measures.
struct Run<'a> {
    program: &'a Path,
    setups: &'a [&'static str],
    append: &'a str,
}

fn measure(paths: &Paths, source: &SourceArgs, run: &Run<'_>) -> Result<(Rows, bool)> {
    for attempt in 1..=ATTEMPTS {
        eprintln!("xtask: bench {} of {}", run.setups.join(" and "), run.program.display());
        let copy = Capture::kept();
        let mut command = vec![paths.release().join("bench").into(), "vmm".into(), run.program.into()];
        command.extend(run.setups.iter().map(Into::into));
        // Which no kernel knows: the same run would stand still at the same place.
        let append = format!("{} bench.attempt={attempt}", run.append);
        let job = Job {
            machine: MachineArgs { icount: true, append, ..MachineArgs::default() },
            timeout: Some(LIMIT),
            copy: Some(copy.clone()),
            ..Job::new(Host::Lab, source, command)
        };
        let outcome = match host::run_job(paths, &job) {
            Err(error) if matches!(error.downcast_ref(), Some(Failure::Timeout(_))) => {
                eprintln!("xtask: attempt {attempt} of {ATTEMPTS}: {error}; does the emulator stand still?");
                continue;
            }
            outcome => outcome?,
        };
        if let Some(report) = nested::log::reports(&outcome.log).first() {
            bail!("The host kernel complained, see {}: {report}", outcome.log.display());
        }
        return Ok((Rows::parse(&copy.text()), outcome.code == 0));
    }
    bail!("The bench did not end within {LIMIT:?}, {ATTEMPTS} times")
}

/// How a figure is shown.
enum Unit {
    /// Nanoseconds, as million instructions.
    MillionInstructions,
    /// Microseconds, as million instructions.
    MillionFromMicroseconds,
    /// Nanoseconds, as thousand instructions.
    ThousandInstructions,
    /// Microseconds, as thousand instructions.
    ThousandFromMicroseconds,
    Count,
    Kib,
    /// Of a load that took `_ns` for `_bytes`: MiB a second.
    Rate,
    /// Of such a load: 4 KiB pieces a second.
    Pieces,
}

struct Figure {
    title: &'static str,
    name: &'static str,
    unit: Unit,
    /// At most.
    target: Option<f64>,
}

const fn figure(title: &'static str, name: &'static str, unit: Unit) -> Figure {
    Figure { title, name, unit, target: None }
}

const FIGURES: [Figure; 27] = [
    Figure {
        target: Some(BOOT_TARGET),
        ..figure("process start to init, million instructions", "boot_ns", Unit::MillionInstructions)
    },
    figure("of these, populating before the guest runs", "fill_us", Unit::MillionFromMicroseconds),
    Figure { target: Some(PSS_TARGET_KIB), ..figure("own memory (PSS less guest RAM), KiB", "pss_kib", Unit::Kib) },
    figure("exits until init", "exits", Unit::Count),
    figure("page faults until init", "page_faults", Unit::Count),
    figure("system calls until init", "system_calls", Unit::Count),
    figure("process start to API, thousand instructions", "api_ready_ns", Unit::ThousandInstructions),
    figure("InstanceStart to KVM_RUN, thousand instructions", "start_to_run_us", Unit::ThousandFromMicroseconds),
    figure("GET /, thousand instructions", "request_ns GET /", Unit::ThousandInstructions),
    figure("GET /version", "request_ns GET /version", Unit::ThousandInstructions),
    figure("GET /machine-config", "request_ns GET /machine-config", Unit::ThousandInstructions),
    figure("PUT /machine-config", "request_ns PUT /machine-config", Unit::ThousandInstructions),
    figure("PUT /boot-source", "request_ns PUT /boot-source", Unit::ThousandInstructions),
    figure("PUT /drives", "request_ns PUT /drives/d", Unit::ThousandInstructions),
    figure("PUT /mmds", "request_ns PUT /mmds", Unit::ThousandInstructions),
    figure("GET /mmds", "request_ns GET /mmds", Unit::ThousandInstructions),
    figure("GET /vm/config", "request_ns GET /vm/config", Unit::ThousandInstructions),
    figure("PATCH /vm Paused", "request_ns PATCH /vm Paused", Unit::ThousandInstructions),
    figure("PATCH /vm Resumed", "request_ns PATCH /vm Resumed", Unit::ThousandInstructions),
    figure("block, read in order, MiB/s", "block_seq_read", Unit::Rate),
    figure("block, write in order, MiB/s", "block_seq_write", Unit::Rate),
    figure("block, 4 KiB reads in no order, /s", "block_rand_read", Unit::Pieces),
    figure("block, 4 KiB writes in no order, /s", "block_rand_write", Unit::Pieces),
    figure("TCP, guest to host, MiB/s", "net_tx", Unit::Rate),
    figure("TCP, host to guest, MiB/s", "net_rx", Unit::Rate),
    figure("vsock, guest to host, MiB/s", "vsock_tx", Unit::Rate),
    figure("vsock, host to guest, MiB/s", "vsock_rx", Unit::Rate),
];

impl Figure {
    fn line(&self, rows: &Rows) -> [String; 6] {
        let target = self.target.map(|target| format!("<= {target:.0}")).unwrap_or_default();
        // Of these, only the start is measured.
        let start = |column: (&str, &str)| match self.value(rows, column.0) {
            Ok(_) => self.cell(rows, column.0, self.target),
            Err(_) => String::new(),
        };
        // Nothing is populated before the guest runs, or nobody knows.
        let all = |column: (&str, &str), target| match self.name {
            "fill_us" => String::new(),
            _ => self.cell(rows, column.0, target),
        };
        [self.title.into(), all(OURS, self.target), start(POOL), start(WHOLE), all(AGAINST, None), target]
    }

    fn cell(&self, rows: &Rows, measured: &str, target: Option<f64>) -> String {
        match self.value(rows, measured) {
            Ok(value) => {
                let missed = if target.is_some_and(|target| value > target) { " missed" } else { "" };
                let digits = usize::from(value < 100.0 && value.fract() != 0.0);
                format!("{value:.digits$}{missed}")
            }
            Err(why) => format!("({why})"),
        }
    }

    fn value(&self, rows: &Rows, measured: &str) -> Result<f64, String> {
        let get = |name: &str| rows.get(measured, name).map(|value| value as f64);
        let load = |part: &str| get(&format!("{}_{part}", self.name));
        Ok(match self.unit {
            Unit::MillionInstructions => get(self.name)? / NS_PER_INSTRUCTION / 1e6,
            Unit::MillionFromMicroseconds => get(self.name)? / NS_PER_INSTRUCTION / 1e3,
            Unit::ThousandInstructions => get(self.name)? / NS_PER_INSTRUCTION / 1e3,
            Unit::ThousandFromMicroseconds => get(self.name)? / NS_PER_INSTRUCTION,
            Unit::Count | Unit::Kib => get(self.name)?,
            Unit::Rate => load("bytes")? / f64::from(1 << 20) / (load("ns")? / 1e9),
            Unit::Pieces => load("bytes")? / 4096.0 / (load("ns")? / 1e9),
        })
    }
}

fn sizes(title: &str, ours: u64, against: Option<u64>) -> [String; 6] {
    let against = against.map(|size| size.to_string()).unwrap_or_default();
    [title.into(), ours.to_string(), String::new(), String::new(), against, String::new()]
}

fn kib(program: &Path) -> Result<u64> {
    Ok(fs::metadata(program).with_context(|| format!("Cannot read {}", program.display()))?.len() >> 10)
}

/// The packages that are compiled into the VMM.
fn packages(paths: &Paths) -> Result<u64> {
    let mut tree = cargo(paths);
    tree.args(["tree", "--package", "secretvmm", "--edges", "normal", "--prefix", "none", "--format", "{p}"]);
    let text = process::output(tree.stdin(Stdio::null()))?;
    let names: HashSet<&str> = text.lines().map(|line| line.trim_end_matches(" (*)")).collect();
    Ok(names.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_converts_units_and_marks_what_missed() {
        let rows = Rows::parse(
            "{\"measured\":\"ours\",\"figure\":\"boot_ns\",\"value\":320000000}\n\
             {\"measured\":\"pool\",\"figure\":\"boot_ns\",\"value\":200000000}\n\
             {\"measured\":\"ours\",\"figure\":\"net_tx_ns\",\"value\":500000000}\n\
             {\"measured\":\"ours\",\"figure\":\"net_tx_bytes\",\"value\":33554432}\n",
        );
        let line = |name: &str| FIGURES.iter().find(|figure| figure.name == name).map(|figure| figure.line(&rows));
        let text = |line: Option<[String; 6]>| line.unwrap_or_default().join("|");
        assert!(text(line("boot_ns")).ends_with("|160 missed|100||(not measured)|<= 151"), "{}", text(line("boot_ns")));
        assert!(text(line("net_tx")).ends_with("|64|||(not measured)|"), "{}", text(line("net_tx")));
    }
}
