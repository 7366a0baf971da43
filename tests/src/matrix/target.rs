// SPDX-License-Identifier: Apache-2.0
//! The columns of the matrix: processes with canary pages in memory of each kind.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use super::Moment;
use super::load::Load;
use crate::artifacts::{GUEST_BZIMAGE, artifact};
use crate::guest::{BOOT_LIMIT, Canary, Ending, Guest, GuestBuilder, STEP_LIMIT, parse_canary};
use crate::holder::Holder;
use crate::host::direct_map::meminfo_bytes;
use crate::host::fdinfo;
use crate::host::witness::Witness;
use crate::probes::Subject;
use crate::secret;

/// Guest RAM.
const MEMORY: &str = "128M";

/// What the memory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TargetKind {
    /// Private anonymous memory of an ordinary process: a control.
    Anonymous,
    /// A guest of secretvmm on a memfd: a control.
    Memfd,
    /// A guest on secret memory in 4 KiB pages.
    #[value(name = "secret-4k")]
    #[serde(rename = "secret-4k")]
    Secret4k,
    /// A guest on secret memory in 2 MiB pages.
    #[value(name = "secret-2m")]
    #[serde(rename = "secret-2m")]
    Secret2m,
    /// A guest on the boot pool.
    SecretPool,
}

impl TargetKind {
    /// As the table and the result file have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Anonymous => "anonymous",
            Self::Memfd => "memfd",
            Self::Secret4k => "secret-4k",
            Self::Secret2m => "secret-2m",
            Self::SecretPool => "secret-pool",
        }
    }

    /// Whether it is hidden.
    pub fn is_secret(self) -> bool {
        !matches!(self, Self::Anonymous | Self::Memfd)
    }

    fn memory_option(self) -> Option<&'static str> {
        match self {
            Self::Anonymous => None,
            Self::Memfd => Some("shared"),
            Self::Secret4k => Some("secret,huge=off"),
            Self::Secret2m => Some("secret,huge=require"),
            Self::SecretPool => Some("secret,pool=boot"),
        }
    }
}

/// A process with a canary. Dropping it ends it.
pub(crate) struct Running {
    process: Process,
    canary: Canary,
    /// Offsets of two canary pages in its memory.
    offsets: Vec<u64>,
    _load: Option<Load>,
    _pool: Option<Holder>,
}

enum Process {
    Holder(Child),
    Guest(Box<Guest>),
}

impl Running {
    /// Starts it and waits for its canary and for the moment.
    pub(crate) fn start(backing: TargetKind, moment: Moment) -> Result<Self> {
        match backing.memory_option() {
            None => Self::start_holder(),
            Some(option) => Self::start_guest(backing, option, moment),
        }
    }

    fn start_holder() -> Result<Self> {
        let mut command = Command::new("ordinary");
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("Cannot start ordinary")?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("No output")?).read_line(&mut line)?;
        let process = Process::Holder(child);
        let (canary, offsets) = parse_canary(line.trim_start_matches("canary: "))?;
        Ok(Running { process, canary, offsets, _load: None, _pool: None })
    }

    fn start_guest(backing: TargetKind, option: &str, moment: Moment) -> Result<Self> {
        let pool = if backing == TargetKind::Secret2m { hold_pool()? } else { None };
        let load = (moment == Moment::Io).then(Load::new).transpose()?;
        // What is injected into the VMM is root's: a refusal has to come from the memory.
        let arguments = ["--backing", option, "--keep-capabilities", "--no-landlock"];
        let builder = GuestBuilder::new(artifact(GUEST_BZIMAGE)?).memory(MEMORY).arguments(arguments);
        if moment == Moment::Rebooted {
            let ending = builder.clone().parameters("secretvmm.exec=reboot").start()?.wait(BOOT_LIMIT)?;
            ensure!(ending == Ending::Code(0), "The guest's reboot ended with {ending:?}");
        }
        let builder = load.iter().fold(builder, |builder, load| load.attach(builder));
        let mut guest = builder.start()?;
        let (canary, line) = guest.wait_for_canary()?;
        guest.wait_for_shell()?;
        if load.is_some() {
            Load::start(&mut guest)?;
        }
        assert_backing(&guest, backing)?;
        let (_, offsets) = parse_canary(&line)?;
        Ok(Running { process: Process::Guest(Box::new(guest)), canary, offsets, _load: load, _pool: pool })
    }

    /// What the probes get.
    pub(crate) fn subject<'a>(&self, witness: &'a Witness) -> Result<Subject<'a>> {
        Subject::new(self.pid(), self.canary, &self.offsets, witness)
    }

    pub(crate) fn pid(&self) -> u32 {
        match &self.process {
            Process::Holder(child) => child.id(),
            Process::Guest(guest) => guest.pid(),
        }
    }

    /// What it planted.
    pub(crate) fn canary(&self) -> Canary {
        self.canary
    }

    /// Ends a guest's VMM with a signal.
    pub(crate) fn end_by(&mut self, signal: Signal) -> Result<Ending> {
        let guest = self.guest()?;
        guest.signal(signal)?;
        guest.wait(STEP_LIMIT)
    }

    /// Lets a guest power itself off.
    pub(crate) fn power_off(&mut self, limit: Duration) -> Result<Ending> {
        let guest = self.guest()?;
        guest.type_line("poweroff -f")?;
        guest.wait(limit)
    }

    fn guest(&mut self) -> Result<&mut Guest> {
        match &mut self.process {
            Process::Guest(guest) => Ok(guest),
            Process::Holder(_) => bail!("There is no guest in it"),
        }
    }

    /// Fails unless it still works after all that was done to it.
    pub(crate) fn assert_alive(&mut self) -> Result<()> {
        match &mut self.process {
            Process::Holder(child) => ensure!(child.try_wait()?.is_none(), "The holder did not survive the probes"),
            Process::Guest(guest) => {
                let said = guest.shell("echo alive")?;
                ensure!(said.ends_with("alive"), "The guest did not survive the probes: {said}");
            }
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Process::Holder(child) = &mut self.process {
            // Both fail only when it has ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Takes all of the pool, so that a guest gets none of it: it would, before free memory.
fn hold_pool() -> Result<Option<Holder>> {
    let mib = meminfo_bytes("SecretPoolFree:")?.unwrap_or(0) >> 20;
    if mib == 0 {
        return Ok(None);
    }
    let holder = Holder::start(&["--mib", &mib.to_string(), "--flags", &secret::POOL.to_string()])?;
    ensure!(holder.result == "held", "Cannot take the pool: {}", holder.result);
    Ok(Some(holder))
}

/// The kernel's word that the guest has the memory that its column says.
fn assert_backing(guest: &Guest, backing: TargetKind) -> Result<()> {
    if !backing.is_secret() {
        return Ok(());
    }
    let info = fdinfo::of_process(guest.pid())?;
    ensure!(info.direct_mapped == 0, "{} pages are in the direct map", info.direct_mapped);
    let as_wanted = match backing {
        TargetKind::Secret4k => info.huge == 0 && info.pool == 0,
        TargetKind::Secret2m => info.huge == info.pages && info.pool == 0,
        _ => info.pool == info.pages,
    };
    match info.pages > 0 && as_wanted {
        true => Ok(()),
        false => bail!("The memory is not {}: {info:?}", backing.name()),
    }
}
