// SPDX-License-Identifier: Apache-2.0
//! A process that holds secret memory: the `hold` program, under any limits and rights.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

/// The process. Dropping it ends it, and what it held is given back.
pub struct Holder {
    child: Child,
    /// `held`, or the call that failed and its errno.
    pub result: String,
    /// 4 KiB pages in its file.
    pub pages: u64,
    /// Of these, in 2 MiB pages.
    pub huge: u64,
    /// Of these, from the boot pool.
    pub pool: u64,
    /// Where it has them mapped.
    pub address: u64,
}

impl Holder {
    /// Starts `hold` with these arguments.
    ///
    /// # Errors
    /// It cannot be started, or ended without a word.
    pub fn start(arguments: &[&str]) -> Result<Self> {
        Self::start_under(&[], arguments)
    }

    /// Starts it under another program that ends with an exec of its arguments, such as `prlimit`.
    ///
    /// # Errors
    /// As [`Holder::start`].
    pub fn start_under(wrapper: &[&str], arguments: &[&str]) -> Result<Self> {
        let words = wrapper.iter().chain(&["hold"]).chain(arguments).map(OsString::from).collect::<Vec<_>>();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("Cannot start {command:?}"))?;
        let mut line = String::new();
        let output = child.stdout.take().context("No output")?;
        BufReader::new(output).read_line(&mut line).context("Cannot read what it got")?;
        let number = |key: &str| {
            let text = line.split_ascii_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))?;
            match text.strip_prefix("0x") {
                Some(digits) => u64::from_str_radix(digits, 16).ok(),
                None => text.parse().ok(),
            }
        };
        let (result, _) = line.split_once(" pages=").with_context(|| format!("{command:?} said {line:?}"))?;
        let found = |key| number(key).with_context(|| format!("No {key} in {line:?}"));
        Ok(Holder {
            result: result.to_owned(),
            pages: found("pages")?,
            huge: found("huge")?,
            pool: found("pool")?,
            address: found("address")?,
            child,
        })
    }

    /// Its process id; of the wrapper if that did not exec.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // At the end of its input it ends; waiting fails only if it is gone already.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
