// SPDX-License-Identifier: Apache-2.0
//! The program with the nested tests: built and listed here, run on a nested host.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::capture::Capture;
use crate::host::Job;
use crate::linux::source::SourceArgs;
use crate::suites::NestedSuite;
use crate::support::cargo::cargo;
use crate::support::paths::Paths;
use crate::support::process;

/// Builds the program that holds the suites, without running it.
pub(crate) fn build(paths: &Paths) -> Result<PathBuf> {
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

/// To run the tests on a host of the suite.
pub(crate) fn job(of: &NestedSuite, tests: &[String], program: &Path, source: &SourceArgs, output: Capture) -> Job {
    let mut command: Vec<OsString> = vec![program.into(), "--test-threads=1".into(), "--exact".into()];
    command.extend(tests.iter().map(OsString::from));
    Job { machine: of.machine(), timeout: Some(of.limit), copy: Some(output), ..Job::new(of.host, source, command) }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
