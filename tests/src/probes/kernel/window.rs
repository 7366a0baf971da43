// SPDX-License-Identifier: Apache-2.0
//! The same-frame control: a second mapping of a canary's very frame finds it, and the walk then finds that mapping.

use anyhow::{Result, ensure};

use crate::probes::{Outcome, Subject};

pub(super) fn run(subject: &Subject<'_>) -> Result<Outcome> {
    let pfn = subject.frame(subject.planted[0])?;
    let before = subject.witness.walk(&[pfn])?;
    let window = subject.witness.hold(pfn)?;
    let during = subject.witness.walk(&[pfn])?;
    let page = window.page()?;
    drop(window);
    let after = subject.witness.walk(&[pfn])?;
    ensure!(
        during.leaves == before.leaves + 1 && during.leaves_in("vmalloc") == before.leaves_in("vmalloc") + 1,
        "One mapping more was {} instead of {} entries",
        during.leaves,
        before.leaves + 1,
    );
    ensure!(after == before, "The mapping is still there: {after:?}");
    Ok(subject.judge(&page))
}
