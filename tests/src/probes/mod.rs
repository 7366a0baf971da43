// SPDX-License-Identifier: Apache-2.0
//! Ways in which the host could read a guest's memory, each a file with one function.
//!
//! A probe reads the pages of a target and tallies what came back. It does not know whether the target is hidden: the
//! caller runs it against an ordinary guest too, where [`Verdict::Hit`] is required, or its refusals prove nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::{fmt, fs, io};

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use secretvmm_canary::Seed;

pub use crate::guest::Canary;
use crate::guest::Guest;
use crate::host::process::{MappedPage, resident_pages};

mod inside;
pub mod kcore;
mod kernel;
mod moving;
mod outcome;
mod outside;
mod proc_mem;
mod process_vm;
mod stolen_fd;
mod subject;

pub use crate::sys::ByPolicy;
pub use outcome::{Class, Outcome};
pub use subject::Subject;

/// Files smaller than this hold no guest RAM.
const SMALLEST: u64 = 1 << 20;

/// What a probe is pointed at.
pub struct Target {
    /// The VMM.
    pub pid: u32,
    /// Every page of guest RAM that is there (and some of the VMM's own).
    pub pages: Vec<MappedPage>,
    /// What the guest planted among them.
    pub canary: Canary,
}

/// A way to read.
pub struct Probe {
    /// As people know it.
    pub name: &'static str,
    /// Tries to read every page of the target.
    ///
    /// # Errors
    /// The probe itself could not work, so that its result would be invalid.
    pub run: fn(&Target) -> Result<Tally>,
}

/// The probes of the demo; all need root.
pub const PROBES: &[Probe] = &[
    Probe { name: "process_vm_readv", run: process_vm::run },
    Probe { name: "/proc/PID/mem", run: proc_mem::run },
    Probe { name: "/proc/kcore", run: kcore::run },
    Probe { name: "pidfd_getfd + mmap", run: stolen_fd::run },
];

/// A probe of the matrix.
pub struct MatrixProbe {
    /// As the table of expectations has it.
    pub name: &'static str,
    /// The row of the design's table that it belongs to.
    pub row: &'static str,
    run: Run,
}

/// How it is run.
enum Run {
    /// Each page of the target's.
    Tally(fn(&Target) -> Result<Tally>),
    /// With all that is known of the target.
    Subject(fn(&Subject<'_>) -> Result<Outcome>),
}

impl MatrixProbe {
    const fn tally(name: &'static str, row: &'static str, run: fn(&Target) -> Result<Tally>) -> Self {
        MatrixProbe { name, row, run: Run::Tally(run) }
    }

    const fn new(name: &'static str, row: &'static str, run: fn(&Subject<'_>) -> Result<Outcome>) -> Self {
        MatrixProbe { name, row, run: Run::Subject(run) }
    }

    /// What comes of it; a failure of the probe's own is an outcome, too.
    pub fn outcome(&self, subject: &Subject<'_>) -> Outcome {
        let outcome = match self.run {
            Run::Tally(run) => subject.target_now().and_then(|now| run(&now)).map(|tally| Outcome::from(&tally)),
            Run::Subject(run) => run(subject),
        };
        outcome.unwrap_or_else(Outcome::from)
    }
}

/// The probes of the matrix, in the order in which they are run: what reads nothing of the target's first, what may move
/// its pages last.
pub fn matrix() -> impl Iterator<Item = &'static MatrixProbe> {
    [kernel::FIRST, outside::PROBES, inside::PROBES, kernel::PROBES, moving::PROBES].into_iter().flatten()
}

/// The errno of a failed read or write.
fn errno_of(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw)
}

/// What came back from all the reads of one probe.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Tally {
    read: u64,
    canaries: BTreeSet<u64>,
    refused: BTreeMap<i32, u64>,
}

/// What a tally says of the guest's canaries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// At least one canary was read.
    Hit,
    /// Every read was refused.
    Refused,
    /// Reads succeeded (some may have been refused), and none returned a canary.
    Absent,
}

impl Target {
    /// The guest's RAM as it is now.
    ///
    /// # Errors
    /// The VMM is gone or we are not root.
    pub fn of_guest(guest: &Guest, canary: Canary) -> Result<Self> {
        Ok(Target { pid: guest.pid(), pages: resident_pages(guest.pid())?, canary })
    }

    /// The numbers of its descriptors whose files could be guest RAM: large, and in no folder, unlike a guest's disk.
    ///
    /// # Errors
    /// It is gone, or has none.
    fn ram_descriptors(&self) -> Result<Vec<i32>> {
        let folder = format!("/proc/{}/fd", self.pid);
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&folder).with_context(|| format!("Cannot list {folder}"))? {
            let entry = entry?;
            let large = fs::metadata(entry.path()).is_ok_and(|file| file.is_file() && file.len() >= SMALLEST);
            let name = fs::read_link(entry.path()).unwrap_or_default();
            let named = ["/secretmem", "/memfd:"].iter().any(|start| name.to_string_lossy().starts_with(start));
            if large && named {
                numbers.push(entry.file_name().to_string_lossy().parse()?);
            }
        }
        ensure!(!numbers.is_empty(), "Process {} has no descriptor that could be guest RAM", self.pid);
        Ok(numbers)
    }
}

impl Tally {
    /// Counts a page that was read, and its canary if it carries one.
    fn page(&mut self, seed: Seed, page: &[u8]) {
        self.read += 1;
        self.canaries.extend(seed.recognise(page).map(|found| found.index));
    }

    /// Counts a page that was refused.
    fn refusal(&mut self, errno: Errno) {
        *self.refused.entry(errno as i32).or_default() += 1;
    }

    /// A probe that read pages `0..count` and found a canary in each.
    #[cfg(test)]
    pub(crate) fn of_canaries(count: u64) -> Self {
        Tally { read: count, canaries: (0..count).collect(), refused: BTreeMap::new() }
    }

    /// The errno of most refusals.
    fn main_refusal(&self) -> Option<Errno> {
        self.refused.iter().max_by_key(|(_, count)| **count).map(|(errno, _)| Errno::from_raw(*errno))
    }

    /// Different canary pages that were read.
    pub fn canaries(&self) -> u64 {
        self.canaries.len() as u64
    }

    /// What it comes to.
    pub fn verdict(&self) -> Verdict {
        match (self.canaries.is_empty(), self.read) {
            (false, _) => Verdict::Hit,
            (true, 0) => Verdict::Refused,
            (true, _) => Verdict::Absent,
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.verdict() {
            Verdict::Hit => write!(f, "FOUND {} canary pages in {} pages read", self.canaries(), self.read)?,
            Verdict::Refused => f.write_str("refused")?,
            Verdict::Absent => write!(f, "no canary in {} pages read", self.read)?,
        }
        for (&errno, count) in &self.refused {
            write!(f, ", {count} x {:?}", Errno::from_raw(errno))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdict_one_canary_among_refusals_is_a_hit() {
        let seed = Seed::new(9);
        let mut tally = Tally::default();
        tally.refusal(Errno::EIO);
        tally.page(seed, &seed.page(4));
        assert_eq!(tally.verdict(), Verdict::Hit);
        assert_eq!(tally.to_string(), "FOUND 1 canary pages in 1 pages read, 1 x EIO");
    }

    #[test]
    fn verdict_zeros_read_with_success_are_not_a_refusal() {
        let mut tally = Tally::default();
        tally.page(Seed::new(9), &[0; 4096]);
        assert_eq!(tally.verdict(), Verdict::Absent);
    }

    #[test]
    fn verdict_refusals_alone_are_a_refusal() {
        let mut tally = Tally::default();
        tally.refusal(Errno::EFAULT);
        assert_eq!(tally.verdict(), Verdict::Refused);
    }
}
