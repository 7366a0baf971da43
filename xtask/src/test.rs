//! `cargo xtask test`: unit tests, then the suites on each nested host.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fmt;
use std::io::{Write, stdout};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::builder::PossibleValuesParser;
use serde_json::Value;

use crate::host::{self, Job};
use crate::kernel::SourceArgs;
use crate::nested::Capture;
use crate::prepare::{Background, Build};
use crate::python::{self, Packages};
use crate::suites::{NestedSuite, is_nested};
use crate::support::cache;
use crate::support::cargo::{build_release, cargo};
use crate::support::paths::{Paths, create_dir};
use crate::support::process;
use crate::support::progress::duration;
use crate::{image, matrix, mutate, nested, prepare, prove, reference, setup};

/// The suite of requests that a program makes up, and its folder below target/.
const REQUESTS: &str = "requests";

/// The witness outside, as a suite of one test.
const OUTSIDE: &str = "outside";

/// The check that tests notice when a guard is gone, as a suite of a test a guard.
const MUTATIONS: &str = "mutations";

/// A suite with more tests than this is spread over several hosts.
const TESTS_A_HOST: usize = 10;

/// Run the unit tests, requests to the API that a program makes up, then the suites on the nested hosts.
///
/// Prints a line for each suite in the end. A host kernel that reports an oops,
/// a WARN, lockdep or KASAN fails its suite.
#[derive(clap::Args, Default)]
pub(crate) struct Args {
    /// Run only tests whose name contains this. Nested ones begin with lab::,
    /// pool::, matrix::, disabled::, stock::, shipped::, devices:: or, with --full,
    /// debug::; "requests" is the made-up requests.
    filter: Option<String>,
    /// Run guests with whole distributions, too, and the lab's tests on more hosts:
    /// a direct map of 2M and of 4K entries, two NUMA nodes, and a kernel with
    /// KASAN, lockdep and kmemleak; the matrix at every moment, 200 VMMs killed, and
    /// 20 looks from outside at each of 24 kinds of host, not one; then disable guards one at
    /// a time (as cargo xtask mutate does). Hours.
    #[arg(long)]
    full: bool,
    /// Run one suite only, without the unit tests; any of those of --full, too.
    #[arg(long, value_parser = PossibleValuesParser::new(NestedSuite::names()))]
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
    let begun = Instant::now();
    let mut results = Vec::new();
    let filter = args.filter.as_deref();
    let all = args.suite.is_none();
    // With a filter it takes the list of tests to tell what is needed.
    let early = filter.is_none().then(|| Background::start(paths, &args.source, builds_of(args.suites())));
    if all && !filter.is_some_and(|filter| is_nested(filter) || filter == REQUESTS) {
        results.push(unit_tests(paths, args)?);
    }
    if all && filter.is_none_or(|filter| filter == REQUESTS) && results.iter().all(Suite::passed) {
        results.push(requests(paths)?);
    }
    if results.iter().all(Suite::passed) {
        results.extend(nested_suites(paths, args, early)?);
    } else {
        results.extend(args.suites().map(|suite| Suite::not_run(suite.name, "the unit tests failed")));
    }
    Ok(summary(&results, begun.elapsed()))
}

/// One suite's result.
#[derive(Debug, Default)]
struct Suite {
    name: String,
    counts: Counts,
    /// Why the suite as a whole failed or did not run.
    trouble: Option<String>,
    time: Duration,
    /// Results of the matrix.
    cells: Vec<Value>,
}

/// Tests by how they ended.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

impl Suite {
    fn not_run(name: &str, why: &str) -> Self {
        Self { name: name.into(), trouble: Some(format!("NOT RUN: {why}")), ..Self::default() }
    }

    /// A suite from its parts, which ran beside each other.
    fn whole(name: &str, parts: &[(&str, Suite)]) -> Self {
        let mut whole = Self { name: name.into(), ..Self::default() };
        for (_, part) in parts.iter().filter(|(of, _)| *of == name) {
            whole.counts.passed += part.counts.passed;
            whole.counts.failed += part.counts.failed;
            whole.counts.skipped += part.counts.skipped;
            whole.time = whole.time.max(part.time);
            whole.cells.extend_from_slice(&part.cells);
            whole.trouble =
                [whole.trouble.take(), part.trouble.clone()].into_iter().flatten().reduce(|a, b| format!("{a}; {b}"));
        }
        whole
    }

    fn passed(&self) -> bool {
        self.counts.failed == 0 && self.trouble.is_none()
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { passed, failed, skipped } = self.counts;
        let verdict = if self.passed() { "ok" } else { "FAILED" };
        write!(f, "{:<10} {verdict:<7} {passed:>4} passed {failed:>3} failed {skipped:>3} skipped", self.name)?;
        write!(f, "  {}", duration(self.time))?;
        self.trouble.iter().try_for_each(|trouble| write!(f, "  {trouble}"))
    }
}

fn unit_tests(paths: &Paths, args: &Args) -> Result<Suite> {
    eprintln!("xtask: unit tests");
    let begun = Instant::now();
    let mut command = cargo(paths);
    command.args(["test", "--workspace", "--no-fail-fast"]).args(&args.filter);
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
    Ok(Suite { name: "unit".into(), counts, trouble, time: begun.elapsed(), ..Suite::default() })
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
    let program = build_nested(paths)?;
    let names = list(&program)?;
    let wanted = args.suites().map(|suite| (suite, suite.select(&names, args.filter.as_deref())));
    let (with, without): (Vec<_>, Vec<_>) = wanted.partition(|(_, tests)| !tests.is_empty());
    if with.is_empty() {
        return Ok(Vec::new());
    }
    let suites: Vec<&NestedSuite> = with.iter().map(|(suite, _)| *suite).collect();
    build_release(paths)?;
    match early {
        Some(early) => early.finish()?,
        None => prepare::ensure(paths, &args.source, &builds_of(suites.iter().copied()))?,
    }
    reference::write(paths)?;
    if suites.iter().any(|suite| suite.needs_debian()) {
        image::ensure(paths)?;
        python::ensure(paths, Packages::Firecracker)?;
    }

    let workers = nested::at_once()?;
    let mut queue: VecDeque<Part<'_>> = with.iter().flat_map(|(suite, tests)| parts(suite, tests, workers)).collect();
    let all = args.suite.is_none() && args.filter.is_none();
    if all {
        let looks = match args.full {
            true => prove::full(paths, &args.source),
            false => prove::every_day(paths, &args.source, workers),
        };
        // After the first parts, which take longest.
        for command in looks {
            queue.insert(workers.min(queue.len()), Part::Outside(Box::new(command)));
        }
    }
    let queue = Mutex::new(queue);
    let done = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    // Not in a `while let`, which would hold the lock as long as the part runs.
                    let Some(part) = lock(&queue).pop_front() else { break };
                    let name = part.name();
                    let result = run_part(paths, args, part, &program);
                    lock(&done).push((name, result));
                }
            });
        }
    });
    let mut results: Vec<Suite> = suites.iter().map(|suite| Suite::whole(suite.name, &lock(&done))).collect();
    matrix::keep(paths, results.iter().flat_map(|suite| &suite.cells))?;
    if all {
        results.push(Suite::whole(OUTSIDE, &lock(&done)));
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the suites use: their hosts' kernels and these kernels' selftests, guests.
pub(crate) fn builds_of<'a>(suites: impl Iterator<Item = &'a NestedSuite>) -> Vec<Build> {
    let mut builds = vec![Build::Guest, Build::Selftests, Build::Cloud];
    for suite in suites {
        let host = Build::Host(suite.host);
        if !builds.contains(&host) {
            builds.push(host);
        }
    }
    builds
}

/// Builds the program that holds the suites, without running it.
pub(crate) fn build_nested(paths: &Paths) -> Result<PathBuf> {
    let mut command = cargo(paths);
    // The whole workspace, so that features are those the unit tests were built with.
    command.args(["test", "--workspace", "--test", "nested", "--no-run"]);
    command.arg("--message-format=json-render-diagnostics");
    let output = process::captured(&mut command)?;
    if !output.status.success() {
        bail!("The nested suites do not build");
    }
    executable(&String::from_utf8_lossy(&output.stdout)).context("Cargo built no program for the nested suites")
}

/// The test program among cargo's messages, one JSON object a line.
fn executable(messages: &str) -> Option<PathBuf> {
    messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).find_map(|message| {
        let nested = message["target"]["name"] == "nested" && message["reason"] == "compiler-artifact";
        nested.then(|| message["executable"].as_str().map(PathBuf::from)).flatten()
    })
}

/// Every test's full name.
pub(crate) fn list(program: &Path) -> Result<Vec<String>> {
    let text = process::output(Command::new(program).args(["--list", "--format=terse"]))?;
    Ok(text.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect())
}

/// What one worker does in one go.
enum Part<'a> {
    /// Tests of one suite that one host runs, one after the other.
    Tests { suite: &'a NestedSuite, tests: Vec<String> },
    /// The witness outside.
    Outside(Box<Command>),
}

impl Part<'_> {
    fn name(&self) -> &'static str {
        match self {
            Self::Tests { suite, .. } => suite.name,
            Self::Outside(_) => OUTSIDE,
        }
    }
}

/// Deals a suite's tests out to `hosts`, if they are many: neighbours, which take about
/// the same time, to different ones.
fn parts<'a>(suite: &'a NestedSuite, tests: &[String], hosts: usize) -> Vec<Part<'a>> {
    let count = tests.len().div_ceil(TESTS_A_HOST).min(hosts).max(1);
    let share = |first| tests.iter().skip(first).step_by(count).cloned().collect();
    (0..count).map(|first| Part::Tests { suite, tests: share(first) }).collect()
}

fn run_part(paths: &Paths, args: &Args, part: Part<'_>, program: &Path) -> Suite {
    match part {
        Part::Tests { suite, tests } => run_tests(paths, args, suite, &tests, program),
        Part::Outside(command) => outside(*command),
    }
}

/// Runs the witness outside; shows what it says when it has ended.
fn outside(mut command: Command) -> Suite {
    eprintln!("xtask: suite {OUTSIDE}: hosts to look at from outside");
    let begun = Instant::now();
    let mut suite = Suite { name: OUTSIDE.into(), ..Suite::default() };
    match process::captured(&mut command) {
        Ok(output) => {
            println!("{}", String::from_utf8_lossy(&output.stdout).trim_end());
            let passed = output.status.success();
            suite.counts = Counts { passed: u64::from(passed), failed: u64::from(!passed), skipped: 0 };
        }
        Err(error) => suite.trouble = Some(format!("{error:#}")),
    }
    suite.time = begun.elapsed();
    suite
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

/// To run the tests on a host of the suite.
pub(crate) fn job(of: &NestedSuite, tests: &[String], program: &Path, source: &SourceArgs, output: Capture) -> Job {
    let mut command: Vec<OsString> = vec![program.into(), "--test-threads=1".into(), "--exact".into()];
    command.extend(tests.iter().map(OsString::from));
    Job { machine: of.machine(), timeout: Some(of.limit), copy: Some(output), ..Job::new(of.host, source, command) }
}

/// Boots a host and runs the tests there.
fn run_tests(paths: &Paths, args: &Args, of: &NestedSuite, tests: &[String], program: &Path) -> Suite {
    eprintln!("xtask: suite {}: a host for {} tests", of.name, tests.len());
    let begun = Instant::now();
    let copy = Capture::default();
    let job = job(of, tests, program, &args.source, copy.clone());
    let mut suite = Suite { name: of.name.into(), ..Suite::default() };
    let result = host::run_job(paths, &job);
    suite.counts = Counts::of(&copy.text());
    suite.cells = matrix::cells(&copy.text());
    suite.trouble = match result {
        Err(error) => Some(format!("{error:#}")),
        Ok(outcome) => outcome
            .complaint()
            .or_else(|| (outcome.code != 0 && suite.counts.failed == 0).then(|| format!("exit code {}", outcome.code))),
    };
    suite.time = begun.elapsed();
    suite
}

impl Counts {
    /// Reads libtest's output. A test that passed but says that it left something out
    /// (tests/nested/lab/selftests.rs) counts as skipped, once.
    pub(crate) fn of(output: &str) -> Self {
        let mut counts = Self::default();
        output.lines().for_each(|line| counts.add(line));
        let left_out =
            output.split("\ntest ").filter(|test| test.contains("SKIPPED: ") && test.lines().any(|line| line == "ok"));
        let left_out = left_out.count() as u64;
        counts.passed = counts.passed.saturating_sub(left_out);
        counts.skipped += left_out;
        counts
    }

    /// Adds a line such as `test result: ok. 3 passed; 0 failed; 1 ignored; …`; leaves others.
    fn add(&mut self, line: &str) {
        let Some((_, result)) = line.split_once("test result: ") else { return };
        for part in result.split(['.', ';']) {
            let Some((number, what)) = part.trim().split_once(' ') else { continue };
            let Ok(number) = number.parse::<u64>() else { continue };
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.skipped += number,
                _ => {}
            }
        }
    }
}

/// Prints the table and the closing line; gives the exit code.
fn summary(results: &[Suite], time: Duration) -> u8 {
    println!();
    results.iter().for_each(|suite| println!("{suite}"));
    let sum = |count: fn(&Counts) -> u64| results.iter().map(|suite| count(&suite.counts)).sum::<u64>();
    let (passed, failed, skipped) = (sum(|c| c.passed), sum(|c| c.failed), sum(|c| c.skipped));
    let verdict = match (passed, results.iter().all(Suite::passed)) {
        (_, false) => "NOT all suites passed",
        (0, true) => "NO test ran",
        (_, true) => "All suites passed",
    };
    println!("{verdict}");
    println!("Time: {}", duration(time));
    println!("Total: {passed} passed, {failed} failed, {skipped} skipped");
    u8::from(passed == 0 || !results.iter().all(Suite::passed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suites::SUITES;

    #[test]
    fn of_sums_result_lines_and_ignores_others() {
        let output = "running 3 tests\n\
                      test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 9 filtered out; finished in 0.01s\n\
                      \nrunning 3 tests\n\
                      test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out\n";
        assert_eq!(Counts::of(output), Counts { passed: 4, failed: 2, skipped: 1 });
    }

    #[test]
    fn of_test_that_left_something_out_is_skipped_and_not_passed() {
        let output = "\nrunning 4 tests\n\
                      test lab::selftests::smm ... SKIPPED: x86_64/smm_test: no SMM\nok\n\
                      test lab::selftests::memfd ... SKIPPED: one\nSKIPPED: two\nok\n\
                      test lab::selftests::state ... SKIPPED: some\nFAILED\n\
                      test lab::figures::time ... figure: time = 1 ms\nok\n\
                      \ntest result: FAILED. 3 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out\n";
        assert_eq!(Counts::of(output), Counts { passed: 1, failed: 1, skipped: 2 });
        let died = "running 1 test\ntest lab::selftests::smm ... SKIPPED: no SMM\nok\ntest lab::x ... ";
        assert_eq!(Counts::of(died), Counts { skipped: 1, ..Counts::default() });
    }

    #[test]
    fn executable_is_that_of_the_nested_target() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","target":{"name":"serde"},"executable":null}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"name":"nested"},"executable":"/t/nested-1"}"#,
            "\n",
            r#"{"reason":"build-finished","success":true}"#,
            "\n"
        );
        assert_eq!(executable(messages), Some(PathBuf::from("/t/nested-1")));
        assert_eq!(executable("{}"), None);
    }

    #[test]
    fn parts_deal_many_tests_to_all_hosts_and_few_to_one() {
        let names: Vec<String> = (0..25).map(|number| format!("lab::t{number}")).collect();
        let size = |part: &Part<'_>| match part {
            Part::Tests { tests, .. } => tests.len(),
            Part::Outside(_) => 0,
        };
        let sizes = |tests: &[String], hosts| parts(&SUITES[0], tests, hosts).iter().map(size).collect();
        let (two, one): (Vec<usize>, Vec<usize>) = (sizes(&names, 2), sizes(&names[..3], 2));
        assert_eq!((two, one), (vec![13, 12], vec![3]));
    }

    #[test]
    fn whole_adds_up_builds_of_its_own_name() {
        let part = |passed, trouble: Option<&str>, seconds| Suite {
            counts: Counts { passed, ..Counts::default() },
            trouble: trouble.map(str::to_owned),
            time: Duration::from_secs(seconds),
            ..Suite::default()
        };
        let parts = [("lab", part(2, None, 5)), ("lab", part(3, Some("died"), 4)), ("stock", part(9, None, 9))];
        let whole = Suite::whole("lab", &parts);
        assert_eq!((whole.counts.passed, whole.time.as_secs(), whole.passed()), (5, 5, false));
    }
}
