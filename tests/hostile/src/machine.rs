// SPDX-License-Identifier: Apache-2.0
//! A VMM with the hostile guest and one of every device, two disks.

use std::fs::{self, File};
use std::io::PipeReader;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use secretvmm_tests::network::Tap;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::Attack;
use crate::watch::status;

const GUEST: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/guest"));
const DISK_BYTES: u64 = 4 << 20;
const START_LIMIT: Duration = Duration::from_secs(120);

/// What guest memory is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Backing {
    /// `memfd_secret(2)`; needs the host kernel's series.
    Secret,
    /// Ordinary memory; runs wherever there is a KVM.
    Shared,
}

/// How the machine ends after the last round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum End {
    /// Not by itself: SIGTERM.
    Terminate,
    /// The keyboard controller's reset.
    Keyboard,
    /// ACPI's reset register.
    Reset,
    /// ACPI's soft-off.
    Off,
    /// pvpanic.
    Panic,
    /// A triple fault.
    Fault,
}

impl End {
    /// The guest's word for it.
    fn word(self) -> &'static str {
        match self {
            End::Terminate => "none",
            End::Keyboard => "keyboard",
            End::Reset => "reset",
            End::Off => "off",
            End::Panic => "panic",
            End::Fault => "fault",
        }
    }

    /// The VMM's exit code for it.
    pub(crate) fn code(self) -> i32 {
        match self {
            End::Terminate => 143,
            End::Keyboard | End::Reset | End::Off => 0,
            End::Panic => 5,
            End::Fault => 4,
        }
    }
}

/// The running VMM. Dropping it kills it.
pub(crate) struct Machine {
    pub(crate) child: Child,
    pub(crate) output: Option<PipeReader>,
    pub(crate) messages: Option<PipeReader>,
    pub(crate) folder: TempDir,
    _tap: Tap,
}

impl Machine {
    pub(crate) fn start(attack: &Attack) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let tap = Tap::new(&format!("hostile{}", std::process::id() % 10_000), "172.20.0.1/24")?;
        fs::write(folder.path().join("guest"), GUEST)?;
        for disk in ["disk", "other", "read-only"] {
            File::create(folder.path().join(disk))?.set_len(DISK_BYTES)?;
        }
        let config = configuration(attack, folder.path(), &tap.name);
        fs::write(folder.path().join("config.json"), config.to_string())?;
        let (stdout, output) = attack.stdout.open()?;
        let (stderr, messages) = attack.stderr.open()?;
        let mut command = Command::new(&attack.program);
        command.arg("--config-file").arg(folder.path().join("config.json"));
        command.arg("--api-sock").arg(folder.path().join("api"));
        let child = command.stdin(Stdio::null()).stdout(stdout).stderr(stderr).spawn();
        let child = child.with_context(|| format!("Cannot start {}", attack.program.display()))?;
        Ok(Self { child, output, messages, folder, _tap: tap })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the API.
    pub(crate) fn wait_for_api(&mut self) -> Result<()> {
        let deadline = Instant::now() + START_LIMIT;
        while status(&self.path("api")).is_err() {
            ensure!(self.child.try_wait()?.is_none(), "The VMM does not start");
            ensure!(Instant::now() < deadline, "The VMM serves no API after {START_LIMIT:?}");
            sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    pub(crate) fn terminate(&self) -> Result<()> {
        kill(Pid::from_raw(self.pid().cast_signed()), Signal::SIGTERM).context("Cannot send SIGTERM")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn configuration(attack: &Attack, folder: &Path, tap: &str) -> Value {
    let Attack { seed, rounds, end, .. } = attack;
    let mut line = format!("seed={seed} rounds={rounds} end={}", end.word());
    line.extend(attack.round.map(|round| format!(" round={round}")));
    let drive = |id: &str, read_only: bool| {
        json!({"drive_id": id, "path_on_host": folder.join(id), "is_root_device": false, "is_read_only": read_only,
            "cache_type": "Writeback"})
    };
    let backend = if attack.backing == Backing::Secret { "secret" } else { "shared" };
    json!({
        "boot-source": {"kernel_image_path": folder.join("guest"), "boot_args": line},
        "machine-config": {"vcpu_count": 1, "mem_size_mib": 32, "memory_backend": backend},
        "drives": [drive("disk", false), drive("read-only", true)],
        "network-interfaces": [{"iface_id": "eth0", "host_dev_name": tap}],
        "mmds-config": {"network_interfaces": ["eth0"], "version": "V1"},
        "vsock": {"guest_cid": 3, "uds_path": folder.join("vsock")},
        "entropy": {},
    })
}
