// SPDX-License-Identifier: Apache-2.0
//! Figures of a VMM: ours, or another with the same flags and API beside it.
//!
//! - [`boot`]: process start to the guest's first process, and what that took of the host;
//! - [`devices`]: streams and pieces through block, network and vsock devices;
//! - [`requests`]: how long each request is handled, and how long a start takes.

mod boot;
mod counters;
mod devices;
mod process;
mod requests;
mod trace;

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::ValueEnum;
use serde_json::{Value, json};

use super::row;
use crate::artifacts::{GUEST_VMLINUX, LOAD, artifact};
use crate::guest::CMDLINE;
use crate::initrd;

/// First line of the guest's first process.
const INIT_LINE: &str = "bench: init";
/// What the guest's first process does: says so, and loads the devices if the command line has the host's address.
const INIT: &str = "echo bench: init
busybox=/bin/busybox
$busybox mkdir -p /proc /dev
$busybox mount -t proc none /proc
$busybox mount -t devtmpfs none /dev
for word in $($busybox cat /proc/cmdline); do
    case $word in bench.host=*) /bin/load ${word#bench.host=} ;; esac
done
while :; do $busybox sleep 1000; done";

/// What is measured, and its name in the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Setup {
    /// Our VMM, with everything as it comes.
    Ours,
    /// Our VMM's start on a host with a pool, out of which guest memory comes.
    Pool,
    /// Our VMM's start with guest memory that is populated whole before the guest runs.
    Whole,
    /// Another VMM.
    Against,
}

impl Setup {
    fn name(self) -> &'static str {
        match self {
            Setup::Ours => "ours",
            Setup::Pool => "pool",
            Setup::Whole => "whole",
            Setup::Against => "against",
        }
    }

    /// What it adds to `/machine-config`, in words that only our VMM knows.
    fn memory(self) -> Option<(&'static str, &'static str)> {
        match self {
            Setup::Ours | Setup::Against => None,
            Setup::Pool => Some(("memory_pool", "boot")),
            Setup::Whole => Some(("memory_populate", "all")),
        }
    }
}

/// What every measurement needs.
struct Bench {
    /// The VMM.
    program: PathBuf,
    /// Its name in the rows.
    measured: &'static str,
    memory: Option<(&'static str, &'static str)>,
    /// A folder for sockets, images and configurations.
    folder: PathBuf,
    kernel: PathBuf,
    initrd: PathBuf,
}

impl Bench {
    fn figure(&self, name: &str, value: u64) -> Result<()> {
        row::figure(self.measured, name, value)
    }

    /// A boot source, with words after the common command line.
    fn boot_source(&self, words: &str) -> Value {
        json!({
            "kernel_image_path": self.kernel,
            "initrd_path": self.initrd,
            "boot_args": format!("{CMDLINE} quiet {words}").trim_end(),
        })
    }

    /// The machine that is started.
    fn machine(&self) -> Value {
        let mut machine = json!({ "vcpu_count": 1, "mem_size_mib": 128 });
        if let Some((name, value)) = self.memory {
            machine[name] = value.into();
        }
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// Measures the VMM `program` as `measured` and prints its rows.
///
/// # Errors
/// Something could not be measured; the rows before it are out.
pub fn measure(program: &Path, measured: Setup) -> Result<()> {
    let whole = matches!(measured, Setup::Ours | Setup::Against);
    let (measured, memory) = (measured.name(), measured.memory());
    let folder = std::env::temp_dir().join(format!("secretvmm-bench-{measured}"));
    std::fs::create_dir_all(&folder)?;
    let initrd = initrd::pack(&folder, &[&artifact(LOAD)?], INIT)?;
    let program = program.to_path_buf();
    let bench = Bench { program, measured, memory, folder, kernel: artifact(GUEST_VMLINUX)?, initrd };
    let parts: &[fn(&Bench) -> Result<()>] =
        if whole { &[boot::measure, requests::measure, devices::measure] } else { &[boot::measure] };
    let results: Vec<Result<()>> = parts.iter().map(|measure| measure(&bench)).collect();
    for error in results.iter().filter_map(|result| result.as_ref().err()) {
        eprintln!("bench: error: {measured}: {error:#}");
    }
    results.into_iter().collect()
}
