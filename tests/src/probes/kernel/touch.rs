// SPDX-License-Identifier: Apache-2.0
//! A module that reads every frame of the target's RAM through the direct map on every CPU: each page is a fresh fault
//! where it is hidden.

use anyhow::{Result, ensure};
use nix::errno::Errno;

use crate::probes::{Class, Outcome, Subject};

pub(super) fn run(subject: &Subject<'_>) -> Result<Outcome> {
    let pfns = subject.target.pages.iter().map(|page| page.pfn).collect::<Vec<_>>();
    let touched = subject.witness.touch(&pfns)?;
    let readable = touched.iter().map(|cpu| cpu.readable).sum::<u64>();
    let refused = touched.iter().map(|cpu| cpu.refused).sum::<u64>();
    ensure!(readable + refused == (pfns.len() * 4096 * touched.len()) as u64, "Not every frame was tried");
    let detail = format!("{readable} bytes readable, {refused} not, on {} CPUs", touched.len());
    Ok(match (readable, refused) {
        (0, _) => Outcome { errno: Some(Errno::EFAULT), ..Outcome::new(Class::Refused, detail) },
        (_, 0) => Outcome::new(Class::Took, detail),
        // Neither hidden nor ordinary.
        _ => Outcome::new(Class::Invalid, detail),
    })
}
