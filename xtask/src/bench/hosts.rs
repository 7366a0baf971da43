// SPDX-License-Identifier: Apache-2.0
//! The nested hosts that are measured, each booted for one run of the measuring program.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use super::rows::Rows;
use crate::host::{self, Host, Job};
use crate::linux::source::SourceArgs;
use crate::nested::{self, Capture, MachineArgs};
use crate::support::paths::Paths;

/// No run takes so long.
const LIMIT: Duration = Duration::from_secs(30 * 60);

/// Stands for the folder of text in a command.
const TEXT: &str = "{text}";

/// Names of the hosts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Name {
    StockHeld,
    SeriesHeld,
    PoolHeld,
    StockSpeed,
    SeriesSpeed,
    PoolSpeed,
    Map2M,
    Map4K,
}

struct Measured {
    name: Name,
    unpatched: bool,
    /// Added to the kernel command line.
    append: &'static str,
    /// Time is a count of instructions.
    icount: bool,
    /// Arguments of the measuring program.
    command: &'static [&'static str],
}

impl Measured {
    /// What it is, for people: kernel, parameters, clock.
    fn title(&self) -> String {
        let kernel = if self.unpatched { "without the series" } else { "with the series" };
        let words = [kernel, self.append, if self.icount { "counting instructions" } else { "" }];
        words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(", ")
    }
}

const fn measured(name: Name, append: &'static str, command: &'static [&'static str]) -> Measured {
    Measured { name, unpatched: false, append, icount: false, command }
}

const HELD_SECRET: &[&str] = &["held", "--work", TEXT, "secret"];

/// On the stock kernel the direct map stays split, so that each host is measured once.
const HOSTS: [Measured; 8] = [
    Measured { unpatched: true, ..measured(Name::StockHeld, "", HELD_SECRET) },
    measured(Name::SeriesHeld, "", &["held", "--work", TEXT, "thp", "secret"]),
    measured(Name::PoolHeld, "secretmem=2G", &["held", "--work", TEXT, "pool"]),
    Measured { unpatched: true, icount: true, ..measured(Name::StockSpeed, "", &["speed", "thp", "secret"]) },
    Measured { icount: true, ..measured(Name::SeriesSpeed, "", &["speed", "thp", "secret"]) },
    Measured { icount: true, ..measured(Name::PoolSpeed, "secretmem=2G", &["speed", "thp", "pool"]) },
    measured(Name::Map2M, "nogbpages", &["work", TEXT]),
    // The only way to a direct map of 4K entries alone on x86-64.
    measured(Name::Map4K, "debug_pagealloc=on", &["work", TEXT]),
];

/// What every host measured.
pub(super) struct Results(Vec<(Name, Rows, Option<String>)>);

impl Results {
    /// A figure of what was measured on one host, or why there is none.
    pub(super) fn get(&self, host: Name, measured: &str, figure: &str) -> Result<u64, String> {
        let (_, rows, _) = self.0.iter().find(|(name, ..)| *name == host).ok_or("not measured")?;
        rows.get(measured, figure)
    }

    /// What went wrong first, a complaint of a host's kernel included.
    pub(super) fn trouble(&self) -> Option<&str> {
        self.troubles().next()
    }

    pub(super) fn troubles(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|(.., trouble)| trouble.as_deref())
    }
}

/// Boots one host after the other. A host that fails leaves its figures open.
///
/// # Errors
/// A kernel does not build, or the user ended it.
pub(super) fn measure_all(paths: &Paths, source: &SourceArgs, text: &Path) -> Result<Results> {
    let measure = |(number, host): (usize, &Measured)| {
        let title = format!("bench host {} of {}: {}", number + 1, HOSTS.len(), host.title());
        measure(paths, source, text, host, &title).map(|(rows, trouble)| (host.name, rows, trouble))
    };
    HOSTS.iter().enumerate().map(measure).collect::<Result<_>>().map(Results)
}

fn measure(
    paths: &Paths,
    source: &SourceArgs,
    text: &Path,
    host: &Measured,
    title: &str,
) -> Result<(Rows, Option<String>)> {
    eprintln!("xtask: {title}");
    let copy = Capture::kept();
    let argument = |word: &&str| if *word == TEXT { text.into() } else { OsString::from(word) };
    let mut command: Vec<OsString> = vec![paths.release().join("bench").into()];
    command.extend(host.command.iter().map(argument));
    let job = Job {
        unpatched: host.unpatched,
        machine: MachineArgs { append: host.append.into(), icount: host.icount, ..MachineArgs::default() },
        timeout: Some(LIMIT),
        copy: Some(copy.clone()),
        ..Job::new(Host::Lab, source, command)
    };
    let trouble = match host::run_job(paths, &job) {
        Err(error) => Some(nested::host_failure(error)?),
        Ok(outcome) if outcome.code != 0 => Some(format!("exit code {}", outcome.code)),
        Ok(outcome) => outcome.complaint(),
    };
    let trouble = trouble.map(|trouble| format!("{title}: {trouble}"));
    Ok((Rows::parse(&copy.text()), trouble))
}
