// SPDX-License-Identifier: Apache-2.0
//! What the host has, before and after.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::host::direct_map::{DirectMap, meminfo_bytes};
use crate::report::figure;
use crate::secret::{self, HUGE_SIZE};

/// How far free memory may differ for reasons of the host's own.
const FREE_TOLERANCE: u64 = 16 << 20;
/// Two counts in a row that differ by less are right.
const QUIET: u64 = 1 << 20;
/// How long the last processes of a race may take to go.
const LIMIT: Duration = Duration::from_secs(30);

/// The host at one moment, without any secret memory.
#[derive(Debug)]
pub(crate) struct Ledger {
    direct_map: DirectMap,
    pool_free: u64,
    free: u64,
}

impl Ledger {
    pub(crate) fn now() -> Result<Self> {
        wait_for_no_secret_memory()?;
        assert_nothing_locked()?;
        Ok(Ledger { direct_map: DirectMap::now()?, pool_free: bytes("SecretPoolFree:")?, free: free_bytes()? })
    }

    /// Asserts that the host is now as it was then.
    pub(crate) fn assert_same(&self) -> Result<()> {
        let now = Ledger::now()?;
        let (was, is) = (self.direct_map, now.direct_map);
        figure(
            "host: splits of 2M and 1G entries",
            format!("{} {}", is.splits_2m - was.splits_2m, is.splits_1g - was.splits_1g),
            "",
        );
        figure("host: free memory less than before", self.free.cast_signed() - now.free.cast_signed(), "bytes");
        // What others had split before may have become whole again with memory that was freed beside it.
        let size = |map: DirectMap| map.kib_4k + map.kib_2m + map.kib_1g;
        let no_worse = is.kib_4k <= was.kib_4k && is.kib_1g >= was.kib_1g;
        ensure!(size(is) == size(was) && no_worse, "The direct map was {was:?} and is {is:?}");
        ensure!(now.pool_free == self.pool_free, "The pool had {} bytes and has {}", self.pool_free, now.pool_free);
        ensure!(now.free + FREE_TOLERANCE >= self.free, "Free memory went from {} to {} bytes", self.free, now.free);
        Ok(())
    }
}

/// Waits until nobody has secret memory.
pub(crate) fn wait_for_no_secret_memory() -> Result<()> {
    let deadline = Instant::now() + LIMIT;
    loop {
        let (all, huge) = (bytes("SecretMem:")?, bytes("SecretMemHuge:")?);
        match (all, huge) {
            (0, 0) => return Ok(()),
            _ if Instant::now() > deadline => bail!("{all} bytes of secret memory are left, {huge} of them huge"),
            _ => sleep(Duration::from_millis(20)),
        }
    }
}

/// Asserts that no page counts against RLIMIT_MEMLOCK of this user: with a limit of 2 MiB, exactly that can be had.
fn assert_nothing_locked() -> Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_MEMLOCK)?;
    setrlimit(Resource::RLIMIT_MEMLOCK, HUGE_SIZE as u64, hard)?;
    let result = secret::file(0, HUGE_SIZE + 4096).and_then(|file| {
        secret::populate(&file, 0, HUGE_SIZE as i64)?;
        Ok(secret::populate(&file, 0, HUGE_SIZE as i64 + 4096))
    });
    setrlimit(Resource::RLIMIT_MEMLOCK, soft, hard)?;
    let beyond = result.context("Locked memory is left: 2 MiB do not fit into a limit of 2 MiB")?;
    ensure!(beyond == Err(Errno::EDQUOT), "One page more than the limit: {beyond:?}");
    Ok(())
}

/// Free memory with caches dropped, and what CPUs keep in lists of their own.
fn free_bytes() -> Result<u64> {
    nix::unistd::sync();
    fs::write("/proc/sys/vm/drop_caches", "3").context("Cannot drop the caches")?;
    shrink_slabs()?;
    // The lists give back tens of MiB at a time: what goes between the two counts would be in both, or in none.
    let (deadline, mut before) = (Instant::now() + LIMIT, u64::MAX);
    loop {
        let free = bytes("MemFree:")? + on_lists()?;
        match free.abs_diff(before) < QUIET {
            true => return Ok(free),
            false if Instant::now() > deadline => bail!("Free memory does not come to rest: {before}, {free} bytes"),
            false => (before, _) = (free, sleep(Duration::from_millis(200))),
        }
    }
}

/// Empties what slab caches hold of freed objects: on the debug host, KASAN's quarantine, which is up to 1/32 of memory
/// (mm/kasan/quarantine.c).
fn shrink_slabs() -> Result<()> {
    let caches = fs::read_dir("/sys/kernel/slab").context("Cannot list the slab caches")?;
    for cache in caches {
        let file = cache?.path().join("shrink");
        // A cache may go while we are at it.
        if file.exists() {
            fs::write(&file, "1").with_context(|| format!("Cannot write {}", file.display()))?;
        }
    }
    Ok(())
}

/// Bytes that CPUs keep in lists of their own.
fn on_lists() -> Result<u64> {
    let zones = fs::read_to_string("/proc/zoneinfo").context("Cannot read /proc/zoneinfo")?;
    let counts = zones.lines().filter_map(|line| line.trim().strip_prefix("count:"));
    Ok(counts.map(|count| count.trim().parse::<u64>()).sum::<Result<u64, _>>()? * 4096)
}

fn bytes(line: &str) -> Result<u64> {
    meminfo_bytes(line)?.with_context(|| format!("No {line} in /proc/meminfo"))
}
