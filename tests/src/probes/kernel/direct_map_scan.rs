// SPDX-License-Identifier: Apache-2.0
//! A module that reads all of physical memory through the direct map.

use anyhow::{Result, ensure};

use crate::host::physical;
use crate::probes::{Class, Outcome, Subject};

pub(super) fn run(subject: &Subject<'_>) -> Result<Outcome> {
    let frames = subject.target.pages.iter().map(|page| page.pfn).collect::<Vec<_>>();
    let found = physical::scan(subject.witness, subject.target.canary.seed)?;
    ensure!(found.pages > 0, "The scan read nothing");
    let own = found.frames.iter().filter(|pfn| frames.contains(pfn)).count();
    let detail =
        format!("{own} canaries in its frames, {} elsewhere, of {} pages", found.frames.len() - own, found.pages);
    let class = if found.frames.is_empty() { Class::Absent } else { Class::Hit };
    Ok(Outcome::new(class, detail))
}
