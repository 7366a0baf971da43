// SPDX-License-Identifier: Apache-2.0
//! Counters that all processes of the race share.
#![allow(unsafe_code)] // Atomics in a shared mapping.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, ensure};
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};

use crate::report::figure;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Count {
    /// Somebody got what he must not.
    Violations,
    /// Guests of victims that ran.
    Guests,
    /// Children that found inherited memory closed to them.
    ChildrenRefused,
    /// Children that wrote to inherited memory, as they may without `SECRETMEM_EXCLUSIVE`.
    ChildrenWrote,
    /// Files that got their size while others faulted on them.
    Sized,
    /// Descriptors that came over a socket.
    Received,
    /// Descriptors that were taken with pidfd_getfd(2).
    Taken,
    /// Exclusive files that refused the thief.
    ThiefRefused,
    /// Guests that the thief ran on a file that is not exclusive.
    ThiefGuests,
    /// Victims that were killed.
    Killed,
    /// `secretvmm`s that were killed.
    Vmms,
}

const NAMES: [(Count, &str); 11] = [
    (Count::Violations, "violations"),
    (Count::Guests, "guests that ran"),
    (Count::ChildrenRefused, "children refused"),
    (Count::ChildrenWrote, "children that wrote"),
    (Count::Sized, "files sized in a race"),
    (Count::Received, "descriptors received"),
    (Count::Taken, "descriptors taken"),
    (Count::ThiefRefused, "thieves refused"),
    (Count::ThiefGuests, "thieves' guests that ran"),
    (Count::Killed, "victims killed"),
    (Count::Vmms, "VMMs killed"),
];

/// The counters, in memory that forked processes share.
#[derive(Clone, Copy)]
pub(super) struct Board(&'static [AtomicU64; 16]);

impl Board {
    pub(super) fn new() -> Result<Self> {
        let length = NonZeroUsize::new(4096).context("No memory asked for")?;
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours.
        let page =
            unsafe { mmap_anonymous(None, length, access, MapFlags::MAP_SHARED) }.context("Cannot map the board")?;
        // SAFETY: the page is zeroed, aligned, larger than the array, and is never unmapped.
        Ok(Board(unsafe { page.cast().as_ref() }))
    }

    pub(super) fn add(self, count: Count) {
        self.0[count as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn get(self, count: Count) -> u64 {
        self.0[count as usize].load(Ordering::Relaxed)
    }

    pub(super) fn print(self) {
        NAMES.iter().for_each(|&(count, name)| figure(&format!("race: {name}"), self.get(count), ""));
    }

    /// Fails if something never happened: then the race was none. A few rounds need not have had everything.
    pub(super) fn assert_all_happened(self, wanted: bool) -> Result<()> {
        for (count, name) in NAMES.iter().skip(1) {
            ensure!(!wanted || *count == Count::Vmms || self.get(*count) > 0, "INVALID: no {name} at all");
        }
        Ok(())
    }
}
