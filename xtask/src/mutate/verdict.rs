// SPDX-License-Identifier: Apache-2.0
//! What came of a test, and what that says of a mutation.

use std::fmt;

use anyhow::Result;

use crate::support::libtest::Counts;

/// How a test ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ended {
    /// It passed.
    Green,
    /// It failed, with what it says.
    Red(String),
    /// It did not run: there is none, or nothing to run it on.
    NotRun(String),
}

impl Ended {
    /// From the output of a test program, and what else went wrong: its exit code, a host that died or complained.
    pub(super) fn of(output: &str, trouble: Option<String>) -> Self {
        let counts = Counts::of(output);
        match trouble {
            _ if counts.failed > 0 => Self::Red(reason(output).unwrap_or_else(|| "it failed".to_owned())),
            Some(trouble) if begun(output) => Self::Red(trouble),
            Some(trouble) => Self::NotRun(trouble),
            None if counts.passed > 0 => Self::Green,
            None => Self::NotRun("no test ran".into()),
        }
    }
}

/// Whether a test program has got as far as its first test.
fn begun(output: &str) -> bool {
    let count = |line: &str| line.strip_prefix("running ")?.split(' ').next()?.parse::<u64>().ok();
    output.lines().filter_map(count).any(|count| count > 0)
}

/// What the first failed test says: the error that it gave back, with the check of a kernel's selftest that failed, or
/// its panic's message.
fn reason(output: &str) -> Option<String> {
    let mut lines = output.lines();
    while let Some(line) = lines.next() {
        if let Some(error) = line.strip_prefix("Error: ") {
            let check = lines.find(|line| line.starts_with("not ok ")).map(|check| format!(" {check}"));
            return Some(error.to_owned() + &check.unwrap_or_default());
        }
        if line.starts_with("thread '") && line.contains(" panicked at ") {
            return lines.next().map(str::to_owned);
        }
    }
    None
}

/// What a mutation's test says of the tests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The test has noticed, and said this.
    Red(String),
    /// The test passes without the guard.
    Survived,
    /// Nothing can be said: the mutation does not apply or build, or its test does not pass without it.
    Invalid(String),
}

impl Verdict {
    /// From the test without the mutation and with it.
    ///
    /// # Errors
    /// Those of `mutated`, which runs only if the test passes without the mutation.
    pub(super) fn of(control: &Ended, mutated: impl FnOnce() -> Result<Ended>) -> Result<Self> {
        Ok(match control {
            Ended::Red(why) => Self::Invalid(format!("the test is red without the mutation, too: {why}")),
            Ended::NotRun(why) => Self::Invalid(format!("the test does not run: {why}")),
            Ended::Green => match mutated()? {
                Ended::Red(why) => Self::Red(why),
                Ended::Green => Self::Survived,
                Ended::NotRun(why) => Self::Invalid(why),
            },
        })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Red(why) => write!(f, "red       {}", short(why)),
            Self::Survived => f.write_str("SURVIVED  the test passes without the guard"),
            Self::Invalid(why) => write!(f, "INVALID   {why}"),
        }
    }
}

/// As much as fits on a line.
fn short(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let cut: String = line.chars().take(120).collect();
    if cut.len() < line.len() { cut + "…" } else { cut }
}

/// What came of all mutations.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Sum {
    pub(crate) red: u64,
    pub(crate) survived: u64,
    pub(crate) invalid: u64,
}

impl Sum {
    pub(super) fn add(self, other: Self) -> Self {
        Self {
            red: self.red + other.red,
            survived: self.survived + other.survived,
            invalid: self.invalid + other.invalid,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const PASSED: &str = "running 1 test\ntest a ... ok\n\ntest result: ok. 1 passed; 0 failed; 0 ignored\n";
    const FAILED: &str = "running 2 tests\ntest a ... ok\ntest b ... FAILED\n\nfailures:\n\n---- b stdout ----\n\
                          Error: \"Others can map it\"\n\ntest result: FAILED. 1 passed; 1 failed; 0 ignored\n";
    const NONE: &str = "running 0 tests\n\ntest result: ok. 0 passed; 0 failed; 0 ignored; 9 filtered out\n";

    fn red(why: &str) -> Ended {
        Ended::Red(why.into())
    }

    #[test]
    fn ended_tells_green_from_red_and_from_nothing() {
        assert_eq!(Ended::of(PASSED, None), Ended::Green);
        assert_eq!(Ended::of(FAILED, Some("exit code 101".into())), red("\"Others can map it\""));
        assert_eq!(Ended::of(NONE, None), Ended::NotRun("no test ran".into()));
        let panicked = "running 1 test\nthread 'a' (7) panicked at a.rs:1:\nleft is right\nmore\n\
                        test result: FAILED. 0 passed; 1 failed\n";
        assert_eq!(Ended::of(panicked, None), red("left is right"));
        let selftest = "running 1 test\nError: memfd_secret failed:\nok 1 a\nnot ok 2 b\nnot ok 3 c\n\
                        test result: FAILED. 0 passed; 1 failed\n";
        assert_eq!(Ended::of(selftest, None), red("memfd_secret failed: not ok 2 b"));
    }

    #[test]
    fn ended_host_that_dies_under_a_test_is_red_and_one_that_never_ran_one_is_not() {
        let died = Some("The nested host died".to_owned());
        assert_eq!(Ended::of("running 1 test\ntest a ... ", died.clone()), red("The nested host died"));
        assert_eq!(Ended::of("", died.clone()), Ended::NotRun("The nested host died".into()));
        assert_eq!(Ended::of(NONE, died), Ended::NotRun("The nested host died".into()));
        assert_eq!(Ended::of(PASSED, Some("the kernel complained".into())), red("the kernel complained"));
    }

    #[test]
    fn verdict_is_good_only_if_a_green_test_turns_red() {
        let of = |control: Ended, mutated: Ended| Verdict::of(&control, || Ok(mutated)).unwrap();
        assert_eq!(of(Ended::Green, red("x")), Verdict::Red("x".into()));
        assert_eq!(of(Ended::Green, Ended::Green), Verdict::Survived);
        let invalid = |verdict: Verdict| matches!(verdict, Verdict::Invalid(_));
        assert!(invalid(of(Ended::Green, Ended::NotRun("it does not build".into()))));
        assert!(invalid(of(red("x"), red("x"))));
        assert!(invalid(of(Ended::NotRun("no test ran".into()), red("x"))));
        assert!(Verdict::of(&Ended::Green, || anyhow::bail!("Interrupted")).is_err());
    }

    #[test]
    fn short_cuts_at_characters() {
        assert_eq!(short("a\nb"), "a");
        assert_eq!(short(&"é".repeat(121)), "é".repeat(120) + "…");
    }
}
