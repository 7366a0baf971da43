// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask kernel --bisect`: the series, patch by patch.

use std::fmt;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::linux::compile::BUILD_LOG;
use crate::linux::kernel::{Recipe, host_options};
use crate::linux::series::Series;
use crate::linux::source::{Source, SourceArgs};
use crate::nested::{self, Capture, Input, MachineArgs, Spec};
use crate::support::cargo::build_release;
use crate::support::paths::Paths;
use crate::support::progress::duration;

/// Booting takes seconds; a step that takes so long hangs.
const LIMIT: Duration = Duration::from_secs(180);

/// What came of one step: the first so many patches.
struct Step {
    name: String,
    /// None: the cache had it.
    build: Option<Duration>,
    /// Lines of the compiler, from the last time it was built.
    warnings: Vec<String>,
    boot: Result<Boot, String>,
}

struct Boot {
    /// What the toy guest says.
    said: String,
    /// Reports in the kernel's log.
    reports: Vec<String>,
}

/// Builds and boots every step from that with the `first` so many patches, prints a line each; gives the exit code.
///
/// # Errors
/// The series has fewer patches, one does not apply, a step does not build, or the user ended it.
pub(crate) fn run(paths: &Paths, args: &SourceArgs, first: usize) -> Result<u8> {
    let source = Source::locate(args.kernel_source.as_deref())?;
    let version = source.version(paths)?;
    let series = Series::read(&paths.repo, &version)?;
    ensure!(first <= series.len(), "The series has {} patches, --bisect={first} is beyond them", series.len());
    build_release(paths)?;
    let mut good = true;
    for count in first..=series.len() {
        let step = try_step(paths, &source, &version, &series, count)?;
        println!("{count:>3} {step}");
        good &= step.is_good();
    }
    println!("{}", if good { "Every step tried builds without a warning and boots" } else { "NOT every step is good" });
    Ok(u8::from(!good))
}

fn try_step(paths: &Paths, source: &Source, version: &str, series: &Series, count: usize) -> Result<Step> {
    let name = series.name(count).unwrap_or_else(|| "(the source as it came)".into());
    let recipe = Recipe {
        name: "bisect".into(),
        folder: "bisect",
        source,
        series: Some(series.first(count)),
        options: host_options(paths, &["bisect"], version)?,
        module: None,
        // This series and the one before it.
        kept: 2 * (series.len() + 1),
    };
    let cached = recipe.is_cached(paths)?;
    let begun = Instant::now();
    let dir = recipe.ensure(paths).with_context(|| format!("Step {count}, {name}"))?;
    let build = (!cached).then(|| begun.elapsed());
    Ok(Step { name, build, warnings: warnings(&dir)?, boot: boot(paths, &dir)? })
}

fn warnings(dir: &Path) -> Result<Vec<String>> {
    let path = dir.join(BUILD_LOG);
    let log = fs::read(&path).with_context(|| format!("Cannot read {}", path.display()))?;
    let log = String::from_utf8_lossy(&log);
    Ok(log.lines().filter(|line| line.to_lowercase().contains("warning:")).map(str::to_owned).collect())
}

fn boot(paths: &Paths, dir: &Path) -> Result<Result<Boot, String>> {
    let copy = Capture::kept();
    let spec = Spec {
        kernel: dir.join("bzImage"),
        modules: None,
        machine: MachineArgs { mem: "1G".into(), ..MachineArgs::default() },
        command: vec![paths.release().join("toy").into()],
        environment: Vec::new(),
        timeout: Some(LIMIT),
        verbose: false,
        input: Input::Nothing,
        copy: Some(copy.clone()),
        monitor: None,
    };
    match nested::run(paths, &spec) {
        Ok(outcome) if outcome.code == 0 => {
            let reports = nested::log::reports(&outcome.log);
            Ok(Ok(Boot { said: copy.text().trim().to_owned(), reports }))
        }
        Ok(outcome) => Ok(Err(format!("the toy guest's program ended with code {}", outcome.code))),
        Err(error) => nested::host_failure(error).map(Err),
    }
}

impl Step {
    fn is_good(&self) -> bool {
        self.warnings.is_empty() && self.boot.as_ref().is_ok_and(|boot| boot.reports.is_empty())
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let build = self.build.map_or("cached".into(), duration);
        write!(f, "{:<62} {build:>7} {:>2} warnings  ", self.name, self.warnings.len())?;
        match &self.boot {
            Ok(Boot { said, reports }) => write!(f, "boots, {said}, {} reports in the kernel log", reports.len())?,
            Err(why) => write!(f, "FAILED: {why}")?,
        }
        let reports = self.boot.iter().flat_map(|boot| &boot.reports);
        self.warnings.iter().chain(reports).try_for_each(|line| write!(f, "\n      {line}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(warnings: &[&str], reports: &[&str]) -> Step {
        let own = |lines: &[&str]| lines.iter().map(|line| line.to_string()).collect();
        let boot = Boot { said: "secret guest runs".into(), reports: own(reports) };
        Step { name: "0001-x.patch".into(), build: None, warnings: own(warnings), boot: Ok(boot) }
    }

    #[test]
    fn is_good_takes_neither_warnings_nor_reports_nor_failed_boots() {
        assert!(step(&[], &[]).is_good());
        assert!(!step(&["mm/x.c:1: warning: unused"], &[]).is_good());
        assert!(!step(&[], &["BUG: x"]).is_good());
        assert!(!Step { boot: Err("died".into()), ..step(&[], &[]) }.is_good());
    }

    #[test]
    fn step_shows_every_complaint_on_a_line_of_its_own() {
        let text = step(&["mm/x.c:1: warning: unused"], &["BUG: x"]).to_string();
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(text.contains("1 warnings") && text.contains("1 reports"), "{text}");
    }
}
