// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask test`: unit tests, then the suites on each nested host.

mod hostile;
mod parts;
mod suite;

use std::collections::VecDeque;
use std::io::{Write, stdout};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result};
use clap::builder::PossibleValuesParser;

use crate::linux::source::SourceArgs;
use crate::nested::{self, program};
use crate::prepare::{self, Background};
use crate::python::{self, Packages};
use crate::suites::{NestedSuite, is_nested};
use crate::support::cache;
use crate::support::cargo::{build_release, cargo};
use crate::support::libtest::Counts;
use crate::support::paths::{Paths, create_dir};
use crate::support::process;
use crate::{image, matrix, mutate, prove, reference, setup};
use hostile::HOSTILE;
use parts::{OUTSIDE, Part, parts};
pub(crate) use suite::Suite;
use suite::summary;

/// The suite of requests that a program makes up, and its folder below target/.
const REQUESTS: &str = "requests";

/// The check that tests notice when a guard is gone, as a suite of a test a guard.
const MUTATIONS: &str = "mutations";

/// Run the unit tests, requests to the API that a program makes up, then the suites on the nested hosts.
///
/// Prints a line for each suite in the end. A host kernel that reports an oops,
/// a WARN, lockdep or KASAN fails its suite.
#[derive(clap::Args, Default)]
pub(crate) struct Args {
    /// Run only tests whose name contains this. Nested ones begin with a suite's name and `::`; "requests" is the
    /// made-up requests, "hostile" hostile guests on this machine's KVM, which --full has, too.
    filter: Option<String>,
    /// Run guests with whole distributions, too, and the lab's tests on more hosts:
    /// a direct map of 2M and of 4K entries, two NUMA nodes, and a kernel with
    /// KASAN, lockdep and kmemleak; the matrix at every moment, 200 VMMs killed, and
    /// 20 looks from outside at each of 24 kinds of host, not one; then disable guards one at
    /// a time (as cargo xtask mutate does). Hours.
    #[arg(long)]
    full: bool,
    /// Run one suite only, without the unit tests; any of those of --full, too.
    #[arg(long, value_parser = PossibleValuesParser::new(NestedSuite::values()))]
    suite: Option<String>,
    #[command(flatten)]
    source: SourceArgs,
}

impl Args {
    /// The suites to run: the one that was named, or all, or those of every day.
    fn suites(&self) -> impl Iterator<Item = &'static NestedSuite> {
        NestedSuite::wanted(self.full, self.suite.as_deref())
    }
}

pub(crate) fn run(paths: &Paths, args: &Args) -> Result<u8> {
    setup::run(&setup::Args {})?;
    run_after(paths, args, Vec::new())
}

/// Runs them after other checks, which are in the table, too.
pub(crate) fn run_after(paths: &Paths, args: &Args, before: Vec<Suite>) -> Result<u8> {
    let begun = Instant::now();
    let mut results = Vec::new();
    let filter = args.filter.as_deref();
    let all = args.suite.is_none();
    // With a filter it takes the list of tests to tell what is needed.
    let early = filter.is_none().then(|| Background::start(paths, &args.source, prepare::builds_of(args.suites())));
    if all && !filter.is_some_and(|filter| is_nested(filter) || [REQUESTS, HOSTILE].contains(&filter)) {
        results.push(unit_tests(paths, args)?);
    }
    if all && filter.is_none_or(|filter| filter == REQUESTS) && results.iter().all(Suite::passed) {
        results.push(requests(paths)?);
    }
    if all && (args.full || filter == Some(HOSTILE)) && results.iter().all(Suite::passed) {
        results.push(hostile::run(paths)?);
    }
    if results.iter().all(Suite::passed) {
        results.extend(nested_suites(paths, args, early)?);
    } else {
        results.extend(args.suites().map(|suite| Suite::not_run(suite.name, "the unit tests failed")));
    }
    results.splice(..0, before);
    Ok(summary(&results, begun.elapsed()))
}

fn unit_tests(paths: &Paths, args: &Args) -> Result<Suite> {
    eprintln!("xtask: unit tests");
    if args.full {
        setup::ensure(&["chromium"])?;
    }
    cargo_test(paths, "unit", |command| {
        command.args(["--workspace", "--no-fail-fast"]).args(&args.filter);
        if args.full {
            command.args(["--", "--include-ignored"]);
        }
    })
}

/// Runs `cargo test` as `with` says, and passes on what it prints.
fn cargo_test(paths: &Paths, name: &str, with: impl FnOnce(&mut Command)) -> Result<Suite> {
    let begun = Instant::now();
    let mut command = cargo(paths);
    command.arg("test");
    with(&mut command);
    // Test programs end with cargo, which ends with us.
    command.env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER", "setpriv --pdeathsig KILL");
    let mut output = Vec::new();
    let status = process::for_each_line(&mut command, |line| {
        let Some(line) = line else { return Ok(()) };
        output.extend(line);
        stdout().write_all(line).context("Cannot write to standard output")
    })?;
    let counts = Counts::of(&String::from_utf8_lossy(&output));
    let trouble = (!status.success() && counts.failed == 0).then(|| "does not build".to_owned());
    Ok(Suite { name: name.into(), counts, trouble, time: begun.elapsed(), ..Suite::default() })
}

/// Requests made from the API's description, to a VMM on this machine that has no VM yet.
fn requests(paths: &Paths) -> Result<Suite> {
    build_release(paths)?;
    let python = python::ensure(paths, Packages::Schemathesis)?;
    eprintln!("xtask: requests");
    let begun = Instant::now();
    let folder = paths.target.join(REQUESTS);
    cache::remove(&folder)?;
    create_dir(&folder)?;
    let mut command = Command::new(python);
    command.arg(paths.repo.join("tests/python/made_up.py")).current_dir(&folder);
    command.arg(paths.release().join("secretvmm")).arg(paths.repo.join("resources/openapi.json"));
    let passed = process::status(command.stdin(Stdio::null()))?.success();
    let counts = Counts { passed: u64::from(passed), failed: u64::from(!passed), skipped: 0 };
    Ok(Suite { name: REQUESTS.into(), counts, time: begun.elapsed(), ..Suite::default() })
}

fn nested_suites(paths: &Paths, args: &Args, early: Option<Background>) -> Result<Vec<Suite>> {
    let program = program::build(paths)?;
    let names = program::list(&program)?;
    let wanted = args.suites().map(|suite| (suite, suite.select(&names, args.filter.as_deref())));
    let (with, without): (Vec<_>, Vec<_>) = wanted.partition(|(_, tests)| !tests.is_empty());
    if with.is_empty() {
        return Ok(Vec::new());
    }
    let suites: Vec<&NestedSuite> = with.iter().map(|(suite, _)| *suite).collect();
    make(paths, args, early, &suites)?;

    let workers = nested::at_once()?;
    let mut queue: VecDeque<Part<'_>> = with.iter().flat_map(|(suite, tests)| parts(suite, tests, workers)).collect();
    let all = args.suite.is_none() && args.filter.is_none();
    if all {
        // After the first parts, which take longest.
        for command in looks(paths, args, workers) {
            queue.insert(workers.min(queue.len()), Part::Outside(Box::new(command)));
        }
    }
    let done = parts::run(paths, &args.source, &program, queue, workers);
    let mut results: Vec<Suite> = suites.iter().map(|suite| Suite::whole(suite.name, &done)).collect();
    matrix::keep(paths, results.iter().flat_map(|suite| &suite.cells))?;
    if all {
        results.push(Suite::whole(OUTSIDE, &done));
    }
    if all && args.full {
        // On its own: a kernel's build and a nested host take all there is.
        results.push(mutations(paths, args));
    }
    if args.filter.is_none() {
        results.extend(without.iter().map(|(suite, _)| Suite::not_run(suite.name, "it has no tests")));
    }
    Ok(results)
}

/// Makes everything that the suites need.
fn make(paths: &Paths, args: &Args, early: Option<Background>, suites: &[&NestedSuite]) -> Result<()> {
    build_release(paths)?;
    match early {
        Some(early) => early.finish()?,
        None => prepare::ensure(paths, &args.source, &prepare::builds_of(suites.iter().copied()))?,
    }
    reference::write(paths)?;
    if suites.iter().any(|suite| suite.needs_debian()) {
        image::ensure(paths)?;
        python::ensure(paths, Packages::Firecracker)?;
    }
    Ok(())
}

fn looks(paths: &Paths, args: &Args, workers: usize) -> Vec<Command> {
    match args.full {
        true => prove::full(paths, &args.source),
        false => prove::every_day(paths, &args.source, workers),
    }
}

/// Disables guards; each test that notices has passed.
fn mutations(paths: &Paths, args: &Args) -> Suite {
    eprintln!("xtask: suite {MUTATIONS}: guards disabled one at a time");
    let begun = Instant::now();
    let mut suite = Suite { name: MUTATIONS.into(), ..Suite::default() };
    match mutate::check(paths, &mutate::Args::all(&args.source)) {
        Ok(sum) => suite.counts = Counts { passed: sum.red, failed: sum.survived + sum.invalid, skipped: 0 },
        Err(error) => suite.trouble = Some(format!("{error:#}")),
    }
    suite.time = begun.elapsed();
    suite
}
