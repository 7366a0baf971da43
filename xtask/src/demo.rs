// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask demo`: from nothing to the evidence.

use anyhow::Result;

use crate::host::{self, Host, Job};
use crate::linux::source::SourceArgs;
use crate::nested::MachineArgs;
use crate::prepare::{Background, Build};
use crate::support::cargo::build_release;
use crate::support::paths::Paths;
use crate::{nested, setup};

/// Show the main job: packages, kernels, the nested host, and the evidence.
///
/// The first run installs Debian packages and builds two kernels; later ones
/// start in seconds. Exits with 0 only if the secret guest's memory could not be
/// read and the ordinary guest's could.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    machine: MachineArgs,
    #[command(flatten)]
    source: SourceArgs,
}

pub(crate) fn run(paths: &Paths, args: &Args) -> Result<u8> {
    setup::run(&setup::Args {})?;
    let early = Background::start(paths, &args.source, vec![Build::Host(Host::Lab), Build::Guest]);
    build_release(paths)?;
    early.finish()?;

    let evidence = paths.release().join("evidence");
    let command = vec![evidence.into(), "demo".into()];
    let job = Job { machine: args.machine.clone(), ..Job::new(Host::Lab, &args.source, command) };
    let outcome = host::run_job(paths, &job)?;
    let reports = nested::log::reports(&outcome.log);
    if !reports.is_empty() {
        eprintln!("xtask: error: the host kernel complained, see {}:\n{}", outcome.log.display(), reports.join("\n"));
        return Ok(outcome.code.max(1));
    }
    Ok(outcome.code)
}
