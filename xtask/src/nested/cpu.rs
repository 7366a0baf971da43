// SPDX-License-Identifier: Apache-2.0
//! The CPU of this machine that a nested host runs on.

use std::path::Path;
use std::process;

use anyhow::{Context, Result, ensure};
use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;

use crate::support::cache::{self, Lock};

/// A CPU claimed for one nested host, until dropped.
pub(super) struct Cpu {
    pub(super) number: usize,
    /// None if there are more nested hosts than CPUs.
    _lock: Option<Lock>,
}

/// Takes a CPU that no other xtask's nested host runs on, or shares one.
pub(super) fn claim(cache: &Path) -> Result<Cpu> {
    let cpus = allowed()?;
    for number in cpus.iter().copied() {
        if let Some(lock) = cache::try_lock(cache, &format!("cpu-{number}"))? {
            return Ok(Cpu { number, _lock: Some(lock) });
        }
    }
    Ok(Cpu { number: cpus[process::id() as usize % cpus.len()], _lock: None })
}

/// How many nested hosts can run beside each other.
pub(crate) fn count() -> Result<usize> {
    allowed().map(|cpus| cpus.len())
}

/// The CPUs that this process may use; at least one.
fn allowed() -> Result<Vec<usize>> {
    let set = sched_getaffinity(Pid::from_raw(0)).context("Cannot tell which CPUs there are")?;
    let cpus: Vec<usize> = (0..CpuSet::count()).filter(|cpu| set.is_set(*cpu).unwrap_or(false)).collect();
    ensure!(!cpus.is_empty(), "There is no CPU to run on");
    Ok(cpus)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn claim_gives_each_host_its_own_cpu_while_there_are_any() {
        let dir = tempfile::tempdir().unwrap();
        let claimed: Vec<Cpu> = (0..count().unwrap()).map(|_| claim(dir.path()).unwrap()).collect();
        assert!(claimed.iter().all(|cpu| cpu._lock.is_some()));
        assert!(claim(dir.path()).unwrap()._lock.is_none(), "one more shares");
        drop(claimed);
        assert!(claim(dir.path()).unwrap()._lock.is_some());
    }
}
