//! `/proc/kcore`'s vmalloc segment, while a mapping of a canary's frame is held there.

use anyhow::{Context, Result};

use crate::probes::{Outcome, Subject, kcore};

pub(super) fn run(subject: &Subject<'_>) -> Result<Outcome> {
    let pfn = subject.frame(subject.planted[0])?;
    let _window = subject.witness.hold(pfn)?;
    let walk = subject.witness.walk(&[pfn])?;
    let leaf = walk.told.iter().find(|leaf| leaf.area == "vmalloc").context("The mapping that is held is not found")?;
    Ok(match kcore::page_at(leaf.address)? {
        Ok(page) => subject.judge(&page),
        Err(errno) => Outcome::refused(errno),
    })
}
