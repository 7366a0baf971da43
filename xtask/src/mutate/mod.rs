//! `cargo xtask mutate`: do the tests notice when a guard is gone?
//!
//! Each mutation (tests/mutations) disables one guard of the kernel series, the VMM or the verifier and names the test
//! that has to turn red. One that turns red without it, too, or a mutation that does not apply or build, says nothing.

mod copy;
mod mutation;
mod verdict;

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::demo::build_release;
use crate::host::{self, Job};
use crate::kernel::{self, SourceArgs};
use crate::nested::{self, Capture};
use crate::suites::NestedSuite;
use crate::support::paths::{Paths, create_dir};
use crate::support::progress::duration;
use crate::{prepare, reference, setup, test};
use copy::Copy;
use mutation::{Kind, Mutation, Test};
use verdict::{Ended, Verdict};

/// For a test on a mutated kernel.
const LIMIT: Duration = Duration::from_secs(300);

/// Disable the guards of the kernel series, the VMM and the verifier one at a time: their tests must turn red.
///
/// A file in tests/mutations is a guard: what it is, the test that has to notice when it is gone, and a diff that
/// takes it away. Each named test runs once without the mutation, where it has to pass, and once with it, where it
/// has to fail. A mutation that does not apply (without fuzz) or does not build is an error and never a success, and
/// so is a test that does not exist.
///
/// Rust code is mutated in a copy of what git tracks, kernels in a source tree of their own; the first kernel takes as
/// long as any, those after it a minute or two. Outputs of the tests are left in target/mutations/logs.
///
/// Prints a line for each mutation. Exits with 0 only if every test has noticed.
#[derive(clap::Args, Default)]
pub(crate) struct Args {
    /// Only mutations whose names contain one of these, such as kernel/gup or nonce.
    names: Vec<String>,
    /// Only mutations of this.
    #[arg(long, value_enum)]
    only: Option<Kind>,
    /// Print names, guards and tests, and stop.
    #[arg(long)]
    list: bool,
    #[command(flatten)]
    source: SourceArgs,
}

impl Args {
    /// All of them.
    pub(crate) fn all(source: &SourceArgs) -> Self {
        Self { source: source.clone(), ..Self::default() }
    }

    fn wants(&self, mutation: &Mutation) -> bool {
        self.only.is_none_or(|kind| mutation.kind == kind)
            && (self.names.is_empty() || self.names.iter().any(|name| mutation.name.contains(name)))
    }
}

pub(crate) fn run(paths: &Paths, args: &Args) -> Result<u8> {
    if args.list {
        for mutation in Mutation::all(&paths.repo)?.iter().filter(|mutation| args.wants(mutation)) {
            println!("{:<40} {}\n{:<40} {}", mutation.name, mutation.guard, "", mutation.test);
        }
        return Ok(0);
    }
    setup::run(&setup::Args {})?;
    let Sum { red, survived, invalid } = check(paths, args)?;
    println!("{} mutations: {red} red, {survived} survived, {invalid} invalid", red + survived + invalid);
    Ok(u8::from(survived + invalid > 0))
}

/// What came of all mutations.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Sum {
    pub(crate) red: u64,
    pub(crate) survived: u64,
    pub(crate) invalid: u64,
}

/// Tries the mutations and prints a line for each.
pub(crate) fn check(paths: &Paths, args: &Args) -> Result<Sum> {
    let mut mutations = Mutation::all(&paths.repo)?;
    mutations.retain(|mutation| args.wants(mutation));
    ensure!(!mutations.is_empty(), "There is no such mutation; --list shows them");
    let mut bench = Bench::new(paths, &args.source);
    let mut sum = Sum::default();
    for (number, mutation) in mutations.iter().enumerate() {
        let begun = Instant::now();
        eprintln!("xtask: mutation {} of {}: {}: {}", number + 1, mutations.len(), mutation.name, mutation.guard);
        let verdict = bench.judge(mutation)?;
        println!("{:<40} {:>6} {verdict}", mutation.name, duration(begun.elapsed()));
        match verdict {
            Verdict::Red(_) => sum.red += 1,
            Verdict::Survived => sum.survived += 1,
            Verdict::Invalid(_) => sum.invalid += 1,
        }
    }
    Ok(sum)
}

/// Where mutations are tried.
struct Bench<'a> {
    paths: &'a Paths,
    source: &'a SourceArgs,
    copy: Copy,
    /// The program with the nested tests and their names, once it is needed.
    nested: Option<(PathBuf, Vec<String>)>,
    /// Suites whose hosts and guests have been built.
    prepared: Vec<&'static str>,
    /// How each test ends without a mutation.
    controls: HashMap<Test, Ended>,
}

impl<'a> Bench<'a> {
    fn new(paths: &'a Paths, source: &'a SourceArgs) -> Self {
        Self { paths, source, copy: Copy::new(paths), nested: None, prepared: Vec::new(), controls: HashMap::new() }
    }

    fn judge(&mut self, mutation: &Mutation) -> Result<Verdict> {
        let control = match self.controls.get(&mutation.test) {
            Some(control) => control.clone(),
            None => {
                let control = self.without(mutation)?;
                self.controls.insert(mutation.test.clone(), control.clone());
                control
            }
        };
        Verdict::of(&control, || self.with(mutation).or_else(not_run))
    }

    fn without(&mut self, mutation: &Mutation) -> Result<Ended> {
        let log = format!("{}-control", mutation.name);
        match &mutation.test {
            Test::Unit { package, filter } => {
                self.copy.set(None)?;
                self.unit(package, filter, &log)
            }
            Test::Nested { suite, filter } => self.nested(suite, filter, Mutated::default(), &log),
        }
    }

    fn with(&mut self, mutation: &Mutation) -> Result<Ended> {
        let Mutation { kind, name, test, patch, .. } = mutation;
        let mutated = match kind {
            Kind::Kernel => {
                let kernel = kernel::mutant(self.paths, self.source.kernel_source.as_deref(), patch)?;
                Mutated { kernel: Some(kernel), programs: None }
            }
            Kind::Verifier | Kind::Vmm => {
                self.copy.set(Some(patch))?;
                Mutated { kernel: None, programs: Some(self.copy.programs()) }
            }
        };
        match test {
            Test::Unit { package, filter } => self.unit(package, filter, name),
            Test::Nested { suite, filter } => {
                if mutated.programs.is_some() {
                    self.copy.build()?;
                }
                self.nested(suite, filter, mutated, name)
            }
        }
    }

    fn unit(&self, package: &str, filter: &str, log: &str) -> Result<Ended> {
        let (ended, output) = self.copy.test(package, filter)?;
        self.keep(log, &output)?;
        Ok(ended)
    }

    fn nested(&mut self, suite: &str, filter: &str, mutated: Mutated, log: &str) -> Result<Ended> {
        let suite = NestedSuite::find(suite).with_context(|| format!("There is no suite {suite}"))?;
        let (program, names) = self.program(suite)?.clone();
        let tests = suite.select(&names, Some(filter));
        if tests.is_empty() {
            return Ok(Ended::NotRun(format!("suite {} has no test {filter}", suite.name)));
        }
        let output = Capture::kept();
        let mut job = test::job(suite, &tests, &program, self.source, output.clone());
        if mutated.kernel.is_some() {
            // What such a kernel breaks may hang whatever comes next, and one test needs a minute.
            job.machine.append.push_str(" oops=panic");
            job.timeout = Some(LIMIT);
        }
        let job = Job { kernel: mutated.kernel, programs: mutated.programs, ..job };
        let trouble = match host::run_job(self.paths, &job) {
            Ok(outcome) => {
                outcome.complaint().or_else(|| (outcome.code != 0).then(|| format!("exit code {}", outcome.code)))
            }
            Err(error) => Some(nested::host_failure(error)?),
        };
        self.keep(log, &output.text())?;
        Ok(Ended::of(&output.text(), trouble))
    }

    /// The program with the nested tests and their names, when all that `suite` needs is there.
    fn program(&mut self, suite: &'static NestedSuite) -> Result<&(PathBuf, Vec<String>)> {
        if self.nested.is_none() {
            build_release(self.paths)?;
            let program = test::build_nested(self.paths)?;
            let names = test::list(&program)?;
            self.nested = Some((program, names));
        }
        if !self.prepared.contains(&suite.name) {
            prepare::ensure(self.paths, self.source, &test::builds_of([suite].into_iter()))?;
            reference::write(self.paths)?;
            self.prepared.push(suite.name);
        }
        self.nested.as_ref().context("There are no nested tests")
    }

    /// Leaves a test's output where it can be read.
    fn keep(&self, name: &str, output: &str) -> Result<()> {
        let file = self.paths.target.join("mutations/logs").join(format!("{name}.log"));
        create_dir(file.parent().unwrap_or(&file))?;
        fs::write(&file, output).with_context(|| format!("Cannot write {}", file.display()))
    }
}

/// What is booted and run in place of what the repository builds.
#[derive(Default)]
struct Mutated {
    /// A built kernel's folder.
    kernel: Option<PathBuf>,
    /// A folder with programs.
    programs: Option<PathBuf>,
}

/// A mutation with which nothing runs. The user's wish to end is not of its making.
fn not_run(error: anyhow::Error) -> Result<Ended> {
    match error.downcast_ref() {
        Some(nested::Failure::Interrupted(_)) => Err(error),
        _ => Ok(Ended::NotRun(format!("{error:#}"))),
    }
}
