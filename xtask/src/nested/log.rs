//! The nested host's kernel log: where it is kept, and what in it is alarming.

use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

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

/// A new log's path: `<dir>/20261121-203418-<pid>-<run>.log`.
pub(super) fn create(dir: &Path) -> Result<PathBuf> {
    create_dir(dir)?;
    cache::prune(dir, KEPT)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let run = RUNS.fetch_add(1, Ordering::Relaxed);
    Ok(dir.join(format!("{}-{}-{run}.log", timestamp(now), process::id())))
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

/// Seconds since 1970 as `YYYYMMDD-HHMMSS`, UTC.
fn timestamp(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days);
    format!("{year}{month:02}{day:02}-{:02}{:02}{:02}", second / 3600, second / 60 % 60, second % 60)
}

/// The Gregorian date of a day since 1970. Years are counted from March, so
/// that the leap day is the last.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468; // since 0000-03-01
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153; // 0 is March
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamp_matches_known_dates() {
        assert_eq!(timestamp(0), "19700101-000000");
        assert_eq!(timestamp(951_782_400), "20000229-000000");
        assert_eq!(timestamp(1_795_293_258), "20261121-203418");
    }

    #[test]
    fn alarming_finds_reports_and_leaves_ordinary_lines() {
        let log =
            "[ 1.0] Linux version 6.12\n[ 2.0] WARNING: CPU: 0 PID: 1 at mm/x.c:1\n[ 3.0] BUG: kernel NULL pointer\r\n";
        assert_eq!(alarming(log), ["[ 2.0] WARNING: CPU: 0 PID: 1 at mm/x.c:1", "[ 3.0] BUG: kernel NULL pointer"]);
    }
}
