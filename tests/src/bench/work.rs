// SPDX-License-Identifier: Apache-2.0
//! Work of the host's own, which a fragmented direct map slows down: a search in source text that lies in a tmpfs.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

/// The best of so many rounds counts.
const ROUNDS: u32 = 15;

/// Text in a tmpfs, removed when dropped.
pub struct Work(PathBuf);

impl Work {
    /// Copies `folder` to a tmpfs.
    ///
    /// # Errors
    /// It cannot be copied.
    pub fn prepare(folder: &Path) -> Result<Self> {
        let copy = PathBuf::from(format!("/dev/shm/secretvmm-bench-{}", std::process::id()));
        let work = Work(copy);
        let status = Command::new("cp").arg("-rL").arg(folder).arg(&work.0).status().context("Cannot run cp")?;
        ensure!(status.success(), "Cannot copy {}", folder.display());
        Ok(work)
    }

    /// Searches all of it several times; the shortest time, in microseconds.
    ///
    /// # Errors
    /// `grep` does not run.
    pub fn best_us(&self) -> Result<u64> {
        let mut best = u64::MAX;
        for _ in 0..ROUNDS {
            let begun = Instant::now();
            let mut grep = Command::new("grep");
            grep.args(["-r", "-E", "(spin|raw_spin)_lock_irqsave"]).arg(&self.0).stdout(Stdio::null());
            ensure!(grep.status().context("Cannot run grep")?.success(), "grep found nothing");
            best = best.min(u64::try_from(begun.elapsed().as_micros())?);
        }
        Ok(best)
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        // What is left behind lies in the nested host's memory and goes with it.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
