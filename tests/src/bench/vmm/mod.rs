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

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::{Value, json};

use super::row;
use crate::artifacts::{GUEST_VMLINUX, LOAD, artifact};
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
const CMDLINE: &str = "console=ttyS0 8250.nr_uarts=1 reboot=k panic=-1 quiet";

/// What every measurement needs.
struct Bench {
    /// The VMM.
    program: PathBuf,
    /// Its name in the rows.
    subject: &'static str,
    /// A folder for sockets, images and configurations.
    folder: PathBuf,
    kernel: PathBuf,
    initrd: PathBuf,
}

impl Bench {
    fn figure(&self, name: &str, value: u64) -> Result<()> {
        row::figure(self.subject, name, value)
    }

    /// A boot source, with words after the common command line.
    fn boot_source(&self, words: &str) -> Value {
        json!({
            "kernel_image_path": self.kernel,
            "initrd_path": self.initrd,
            "boot_args": format!("{CMDLINE} {words}").trim_end(),
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// Measures the VMM `program` and prints its rows.
///
/// # Errors
/// Something could not be measured; the rows before it are out.
pub fn measure(program: &Path, subject: &'static str) -> Result<()> {
    let folder = std::env::temp_dir().join(format!("secretvmm-bench-{subject}"));
    std::fs::create_dir_all(&folder)?;
    let initrd = initrd::pack(&folder, &[&artifact(LOAD)?], INIT)?;
    let program = program.to_path_buf();
    let bench = Bench { program, subject, folder, kernel: artifact(GUEST_VMLINUX)?, initrd };
    let results = [boot::measure(&bench), requests::measure(&bench), devices::measure(&bench)];
    for error in results.iter().filter_map(|result| result.as_ref().err()) {
        eprintln!("bench: error: {subject}: {error:#}");
    }
    results.into_iter().collect::<Result<Vec<()>>>().map(drop)
}
