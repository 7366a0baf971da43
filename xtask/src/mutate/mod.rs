// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask mutate`: do the tests notice when a guard is gone?
//!
//! Each mutation in tests/mutations disables one guard of the kernel series and names the test that has to turn red. One
//! that turns red without it, too, or a mutation that does not apply or build, says nothing. For Rust code there is a
//! tool that makes the mutations: cargo-mutants.

mod kind;
mod mutation;
mod rust;
mod verdict;

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::host::{self, Job};
use crate::linux::kernel;
use crate::linux::source::SourceArgs;
use crate::nested::{self, Capture, program};
use crate::suites::NestedSuite;
use crate::support::cargo::build_release;
use crate::support::paths::{Paths, create_dir};
use crate::support::progress::duration;
use crate::{prepare, reference, setup};
use kind::Kind;
use mutation::{Mutation, Test};
use verdict::{Ended, Sum, Verdict};

/// For a test on a mutated kernel.
const LIMIT: Duration = Duration::from_secs(300);

/// Disable guards one at a time: a test must turn red.
///
/// Rust code is changed by cargo-mutants, which is installed into the cache. .cargo/mutants.toml has what is left out,
/// and why.
///
/// For the kernel a file in tests/mutations is a guard: what it is, the test that has to notice when it is gone, and a
/// diff that takes it away. Each named test runs once without the mutation, where it has to pass, and once with it,
/// where it has to fail. A mutation that does not apply (without fuzz) or does not build is an error and never a
/// success, and so is a test that does not exist. The first kernel takes as long as any, those after it a minute or
/// two.
///
/// Outputs are left in target/mutations. Exits with 0 only if every mutation was noticed.
#[derive(clap::Args, Default)]
pub(crate) struct Args {
    /// Only mutations of the kernel whose names contain one of these, such as gup.
    names: Vec<String>,
    /// Only mutations of this.
    #[arg(long, value_enum, conflicts_with = "names")]
    only: Option<Kind>,
    /// Print the kernel's mutations with their guards and tests, and stop.
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
        self.names.is_empty() || self.names.iter().any(|name| mutation.name.contains(name))
    }

    fn wants_kind(&self, kind: Kind) -> bool {
        match self.only {
            Some(only) => only == kind,
            None => self.names.is_empty() || kind == Kind::Kernel,
        }
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

/// Tries the mutations and prints a line for each.
pub(crate) fn check(paths: &Paths, args: &Args) -> Result<Sum> {
    let mut sum = Sum::default();
    for scope in rust::SCOPES.iter().filter(|scope| args.wants_kind(scope.kind)) {
        sum = sum.add(rust::check(paths, scope)?);
    }
    match args.wants_kind(Kind::Kernel) {
        true => Ok(sum.add(check_kernel(paths, args)?)),
        false => Ok(sum),
    }
}

fn check_kernel(paths: &Paths, args: &Args) -> Result<Sum> {
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
    /// The program with the nested tests and their names, once it is needed.
    nested: Option<(PathBuf, Vec<String>)>,
    /// Suites whose hosts and guests have been built.
    prepared: Vec<&'static str>,
    /// How each test ends without a mutation.
    controls: HashMap<Test, Ended>,
}

impl<'a> Bench<'a> {
    fn new(paths: &'a Paths, source: &'a SourceArgs) -> Self {
        Self { paths, source, nested: None, prepared: Vec::new(), controls: HashMap::new() }
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
        self.nested(&mutation.test, None, &format!("{}-control", mutation.name))
    }

    fn with(&mut self, mutation: &Mutation) -> Result<Ended> {
        let kernel = kernel::mutant(self.paths, self.source.kernel_source.as_deref(), &mutation.patch)?;
        self.nested(&mutation.test, Some(kernel), &mutation.name)
    }

    /// Runs tests on the lab's kernel, or on the one in `kernel`.
    fn nested(&mut self, Test { suite, filter }: &Test, kernel: Option<PathBuf>, log: &str) -> Result<Ended> {
        let suite = NestedSuite::find(suite).with_context(|| format!("There is no suite {suite}"))?;
        let (program, names) = self.program(suite)?.clone();
        let selected = suite.select(&names, Some(filter));
        if selected.is_empty() {
            return Ok(Ended::NotRun(format!("suite {} has no test {filter}", suite.name)));
        }
        let output = Capture::kept();
        let mut job = program::job(suite, &selected, &program, self.source, output.clone());
        if kernel.is_some() {
            // What such a kernel breaks may hang whatever comes next, and one test needs a minute.
            job.machine.append.push_str(" oops=panic");
            job.timeout = Some(LIMIT);
        }
        let job = Job { kernel, ..job };
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
            let program = program::build(self.paths)?;
            let names = program::list(&program)?;
            self.nested = Some((program, names));
        }
        if !self.prepared.contains(&suite.name) {
            prepare::ensure(self.paths, self.source, &prepare::builds_of([suite].into_iter()))?;
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

/// A mutation with which nothing runs. The user's wish to end is not of its making.
fn not_run(error: anyhow::Error) -> Result<Ended> {
    match error.downcast_ref() {
        Some(nested::Failure::Interrupted(_)) => Err(error),
        _ => Ok(Ended::NotRun(format!("{error:#}"))),
    }
}
