// SPDX-License-Identifier: Apache-2.0
//! What came of a suite, and of all of them.

use std::fmt;
use std::time::Duration;

use serde_json::Value;

use crate::support::libtest::Counts;
use crate::support::progress::duration;

/// One suite's result.
#[derive(Debug, Default)]
pub(crate) struct Suite {
    pub(crate) name: String,
    pub(crate) counts: Counts,
    /// Why the suite as a whole failed or did not run.
    pub(crate) trouble: Option<String>,
    pub(crate) time: Duration,
    /// Results of the matrix.
    pub(crate) cells: Vec<Value>,
}

impl Suite {
    pub(crate) fn not_run(name: &str, why: &str) -> Self {
        Self { name: name.into(), trouble: Some(format!("NOT RUN: {why}")), ..Self::default() }
    }

    /// A suite from its parts, which ran beside each other.
    pub(crate) fn whole(name: &str, parts: &[(&str, Suite)]) -> Self {
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

    pub(crate) fn passed(&self) -> bool {
        self.counts.failed == 0 && self.trouble.is_none()
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { passed, failed, skipped } = self.counts;
        let verdict = if self.passed() { "ok" } else { "FAILED" };
        write!(f, "{:<18} {verdict:<7} {passed:>4} passed {failed:>3} failed {skipped:>3} skipped", self.name)?;
        write!(f, "  {}", duration(self.time))?;
        self.trouble.iter().try_for_each(|trouble| write!(f, "  {trouble}"))
    }
}

/// Prints the table and the closing line; gives the exit code.
pub(crate) fn summary(results: &[Suite], time: Duration) -> u8 {
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
