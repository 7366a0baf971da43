// SPDX-License-Identifier: Apache-2.0
//! A module that walks the kernel's page tables for any present entry that reaches a frame of the target's RAM.
//!
//! KVM's aliases (kvm-clock) are such entries; they are counted in fdinfo and allowed to that number, in vmalloc only.

use anyhow::{Result, ensure};

use crate::host::fdinfo;
use crate::probes::{Class, Outcome, Subject};

pub(super) fn run(subject: &Subject<'_>) -> Result<Outcome> {
    let pfns = subject.target.pages.iter().map(|page| page.pfn).collect::<Vec<_>>();
    let walk = subject.witness.walk(&pfns)?;
    ensure!(walk.unreadable == 0, "{} page tables could not be read", walk.unreadable);
    let areas = ["direct", "image", "vmalloc", "modules", "other"].map(|area| (area, walk.leaves_in(area)));
    let detail = format!("{} of {} frames reached, entries by area: {areas:?}", walk.reached, walk.frames);
    let Ok(info) = fdinfo::of_process(subject.pid()) else {
        // Ordinary memory is mapped whole, or the walk has missed something.
        let class = if walk.reached == walk.frames { Class::Took } else { Class::Invalid };
        return Ok(Outcome::new(class, detail));
    };
    let aliases = info.aliases.min(walk.leaves_in("vmalloc") as u64);
    let class = if walk.leaves == aliases { Class::Absent } else { Class::Took };
    Ok(Outcome::new(class, format!("{detail}, {} aliases", info.aliases)))
}
