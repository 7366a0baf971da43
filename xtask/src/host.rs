// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask host`: a command on the nested host.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::linux::kernel;
use crate::linux::source::SourceArgs;
use crate::linux::stock::{self, Flavour};
use crate::nested::{self, Capture, Input, MachineArgs, Outcome, Spec};
use crate::support::paths::Paths;

/// Run a command as root on the nested host.
///
/// Boots the patched kernel in QEMU (emulated SVM; real nesting where this
/// machine's KVM offers it), with this machine's files at their own paths: they
/// can be read, and changes are gone in the end. The command starts in the
/// current folder with the current environment; target/release and target/debug
/// are first in PATH. Its output and exit code come back as they are. On a
/// terminal it gets a terminal; Ctrl-] ends the nested host.
///
/// Exit codes: the command's; 128 + N if signal N ended it; 124 after
/// --timeout; 125 if the nested host itself died (the end of its kernel log is
/// shown).
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    machine: MachineArgs,
    /// The kernel to boot.
    #[arg(long, value_enum, default_value_t = Host::Lab)]
    config: Host,
    #[command(flatten)]
    source: SourceArgs,
    /// Boot the kernel without the series (not for stock).
    #[arg(long)]
    unpatched: bool,
    /// End the nested host after so many seconds [default: never].
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
    /// Say what is done, how long the boot took, and where the kernel log is.
    #[arg(long, short)]
    verbose: bool,
    /// What to run [default: a shell].
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

/// Kernels of the nested host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Host {
    /// Patched; everything a prober could use.
    Lab,
    /// Patched; what an operator runs.
    Shipped,
    /// The lab with KASAN, lockdep and kmemleak: slow, and wants 8G.
    Debug,
    /// Debian's own kernel, as it is.
    Stock,
}

impl Host {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Lab => kernel::Config::Lab.name(),
            Self::Shipped => kernel::Config::Shipped.name(),
            Self::Debug => kernel::Config::Debug.name(),
            Self::Stock => "stock",
        }
    }
}

/// What to run where.
pub(crate) struct Job {
    pub(crate) host: Host,
    pub(crate) unpatched: bool,
    pub(crate) machine: MachineArgs,
    pub(crate) source: SourceArgs,
    pub(crate) command: Vec<OsString>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) verbose: bool,
    /// Where the command's standard input comes from.
    pub(crate) input: Input,
    /// Keeps a copy of the command's standard output.
    pub(crate) copy: Option<Capture>,
    /// A unix socket to make at which QEMU takes orders (QMP).
    pub(crate) monitor: Option<PathBuf>,
    /// Boots the mutant in this folder of the cache in place of the host's kernel.
    pub(crate) kernel: Option<PathBuf>,
    /// Programs that come before all others.
    pub(crate) programs: Option<PathBuf>,
}

impl Job {
    /// A command without input on the usual machine, which may take its time.
    pub(crate) fn new(host: Host, source: &SourceArgs, command: Vec<OsString>) -> Self {
        Self {
            host,
            unpatched: false,
            machine: MachineArgs::default(),
            source: source.clone(),
            command,
            timeout: None,
            verbose: false,
            input: Input::Nothing,
            copy: None,
            monitor: None,
            kernel: None,
            programs: None,
        }
    }
}

pub(crate) fn run(paths: &Paths, args: &Args) -> Result<u8> {
    let command = if args.command.is_empty() { shell() } else { args.command.clone() };
    let job = Job {
        unpatched: args.unpatched,
        machine: args.machine.clone(),
        timeout: args.timeout.map(Duration::from_secs),
        verbose: args.verbose,
        input: Input::Own,
        ..Job::new(args.config, &args.source, command)
    };
    let outcome = run_job(paths, &job)?;
    let reports = nested::log::reports(&outcome.log);
    if !reports.is_empty() {
        eprintln!("xtask: warning: the host kernel complained, see {}:\n{}", outcome.log.display(), reports.join("\n"));
    }
    Ok(outcome.code)
}

/// Builds or fetches the kernel if needed, boots it, runs the command.
pub(crate) fn run_job(paths: &Paths, job: &Job) -> Result<Outcome> {
    if job.machine.icount && job.machine.smp > 1 {
        bail!("Counting instructions works with one CPU; leave --smp out");
    }
    let (kernel, modules) = match &job.kernel {
        Some(dir) => (dir.join("bzImage"), None),
        None => kernel_of(paths, job.host, job.unpatched, &job.source)?,
    };
    nested::run(
        paths,
        &Spec {
            kernel,
            modules,
            machine: job.machine.clone(),
            command: job.command.clone(),
            environment: environment(paths, job)?,
            timeout: job.timeout,
            verbose: job.verbose,
            input: job.input.clone(),
            copy: job.copy.clone(),
            monitor: job.monitor.clone(),
        },
    )
}

/// Builds or fetches the kernel of `host` if needed.
pub(crate) fn ensure(paths: &Paths, host: Host, source: &SourceArgs) -> Result<()> {
    kernel_of(paths, host, false, source).map(drop)
}

/// The kernel to boot, and the folder of its modules if it has any.
fn kernel_of(paths: &Paths, host: Host, unpatched: bool, source: &SourceArgs) -> Result<(PathBuf, Option<PathBuf>)> {
    let config = match host {
        Host::Lab => kernel::Config::Lab,
        Host::Shipped => kernel::Config::Shipped,
        Host::Debug => kernel::Config::Debug,
        Host::Stock => {
            let dir = stock::ensure(paths, Flavour::Full)?;
            return Ok((dir.join("vmlinuz"), Some(dir)));
        }
    };
    let dir = kernel::ensure(paths, config, unpatched, source.kernel_source.as_deref())?;
    Ok((dir.join("bzImage"), None))
}

/// What the command finds set: our programs first in PATH, and where the built
/// kernels are.
fn environment(paths: &Paths, job: &Job) -> Result<Vec<(OsString, OsString)>> {
    let config = if job.kernel.is_some() { kernel::MUTANT } else { job.host.name() };
    let before = env::var_os("PATH").unwrap_or_default();
    let ours = [paths.release(), paths.target.join("debug")];
    let system = ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/local/bin", "/usr/bin", "/bin"].map(PathBuf::from);
    let missing = system.into_iter().filter(|dir| !env::split_paths(&before).any(|have| have == *dir));
    let first = job.programs.iter().cloned().chain(ours);
    let path = env::join_paths(first.chain(env::split_paths(&before)).chain(missing))
        .context("The build folder's path cannot be put into PATH")?;
    Ok(vec![
        ("PATH".into(), path),
        ("SECRETVMM_ARTIFACTS".into(), paths.artifacts().into()),
        ("SECRETVMM_HOST_CONFIG".into(), config.into()),
    ])
}

fn shell() -> Vec<OsString> {
    vec![env::var_os("SHELL").filter(|shell| !shell.is_empty()).unwrap_or_else(|| "/bin/sh".into())]
}
