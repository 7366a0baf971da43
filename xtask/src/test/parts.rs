// SPDX-License-Identifier: Apache-2.0
//! The suites' parts, and the workers that run them beside each other.

use std::collections::VecDeque;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use super::suite::Suite;
use crate::linux::source::SourceArgs;
use crate::nested::{Capture, program};
use crate::suites::NestedSuite;
use crate::support::libtest::Counts;
use crate::support::paths::Paths;
use crate::support::process;
use crate::{host, matrix};

/// The witness outside, as a suite of one test.
pub(super) const OUTSIDE: &str = "outside";

/// A suite with more tests than this is spread over several hosts.
const TESTS_A_HOST: usize = 10;

/// What one worker does in one go.
pub(super) enum Part<'a> {
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

    fn run(self, paths: &Paths, source: &SourceArgs, program: &Path) -> Suite {
        match self {
            Self::Tests { suite, tests } => run_tests(paths, source, suite, &tests, program),
            Self::Outside(command) => outside(*command),
        }
    }
}

/// Deals a suite's tests out to `hosts`, if they are many: neighbours, which take about
/// the same time, to different ones.
pub(super) fn parts<'a>(suite: &'a NestedSuite, tests: &[String], hosts: usize) -> Vec<Part<'a>> {
    let count = tests.len().div_ceil(TESTS_A_HOST).min(hosts).max(1);
    let share = |first| tests.iter().skip(first).step_by(count).cloned().collect();
    (0..count).map(|first| Part::Tests { suite, tests: share(first) }).collect()
}

/// Runs them all, `workers` at a time; gives what came of each, with its suite's name.
pub(super) fn run(
    paths: &Paths,
    source: &SourceArgs,
    program: &Path,
    parts: VecDeque<Part<'_>>,
    workers: usize,
) -> Vec<(&'static str, Suite)> {
    let queue = Mutex::new(parts);
    let done = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    // Not in a `while let`, which would hold the lock as long as the part runs.
                    let Some(part) = lock(&queue).pop_front() else { break };
                    let name = part.name();
                    let result = part.run(paths, source, program);
                    lock(&done).push((name, result));
                }
            });
        }
    });
    done.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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

/// Boots a host and runs the tests there.
fn run_tests(paths: &Paths, source: &SourceArgs, of: &NestedSuite, names: &[String], program: &Path) -> Suite {
    eprintln!("xtask: suite {}: a host for {} tests", of.name, names.len());
    let begun = Instant::now();
    let copy = Capture::default();
    let job = program::job(of, names, program, source, copy.clone());
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suites::SUITES;

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
}
