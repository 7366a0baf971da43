// SPDX-License-Identifier: Apache-2.0
//! The output of Rust's test programs.

/// Tests by how they ended.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

impl Counts {
    /// Reads libtest's output. A test that passed but says that it left something out
    /// (tests/nested/lab/selftests.rs) counts as skipped, once.
    pub(crate) fn of(output: &str) -> Self {
        let mut counts = Self::default();
        output.lines().for_each(|line| counts.add_line(line));
        let left_out =
            output.split("\ntest ").filter(|test| test.contains("SKIPPED: ") && test.lines().any(|line| line == "ok"));
        let left_out = left_out.count() as u64;
        counts.passed = counts.passed.saturating_sub(left_out);
        counts.skipped += left_out;
        counts
    }

    /// Adds one test.
    pub(crate) fn add(&mut self, passed: bool) {
        *(if passed { &mut self.passed } else { &mut self.failed }) += 1;
    }

    /// Adds a line such as `test result: ok. 3 passed; 0 failed; 1 ignored; …`; leaves others.
    fn add_line(&mut self, line: &str) {
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
