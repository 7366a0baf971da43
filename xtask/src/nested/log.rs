// SPDX-License-Identifier: Apache-2.0
//! The nested host's kernel log: where it is kept, and what in it is alarming.

use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::SystemTime;

use anyhow::Result;

use crate::support::cache;
use crate::support::paths::create_dir;

/// Logs kept.
const KEPT: usize = 60;

/// Nested hosts of this process.
static RUNS: AtomicU32 = AtomicU32::new(1);

/// How the kernel's reports of its own faults begin.
const REPORTS: [&str; 14] = [
    "BUG: ",
    "kernel BUG at",
    "Oops: ",
    "WARNING: ",
    "general protection fault",
    "double fault",
    "KASAN: ",
    "KCSAN: ",
    "UBSAN: ",
    "possible circular locking dependency",
    "inconsistent lock state",
    "suspicious RCU usage",
    "blocked for more than",
    "rcu_sched detected stalls",
];

/// A new log's path: `<dir>/20261121T203418Z-<pid>-<run>.log`.
pub(super) fn create(dir: &Path) -> Result<PathBuf> {
    create_dir(dir)?;
    cache::prune(dir, KEPT)?;
    let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string().replace([':', '-'], "");
    let run = RUNS.fetch_add(1, Ordering::Relaxed);
    Ok(dir.join(format!("{now}-{}-{run}.log", process::id())))
}

/// The lines of a log that report a fault of the kernel.
pub(crate) fn reports(log: &Path) -> Vec<String> {
    let text = fs::read(log).unwrap_or_default();
    alarming(&String::from_utf8_lossy(&text))
}

fn alarming(text: &str) -> Vec<String> {
    let lines = text.lines().filter(|line| REPORTS.iter().any(|report| line.contains(report)));
    lines.map(|line| line.trim().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alarming_finds_reports_and_leaves_ordinary_lines() {
        let log =
            "[ 1.0] Linux version 6.12\n[ 2.0] WARNING: CPU: 0 PID: 1 at mm/x.c:1\n[ 3.0] BUG: kernel NULL pointer\r\n";
        assert_eq!(alarming(log), ["[ 2.0] WARNING: CPU: 0 PID: 1 at mm/x.c:1", "[ 3.0] BUG: kernel NULL pointer"]);
    }
}
