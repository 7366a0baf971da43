// SPDX-License-Identifier: Apache-2.0
//! The kernel's own dump of its page tables: whether it shows a canary's frame in the direct map.

use anyhow::Result;

use crate::host::page_tables::is_mapped;
use crate::probes::{Class, Outcome, Subject, kcore};

pub(super) fn run(subject: &Subject<'_>) -> Result<Outcome> {
    let address = kcore::direct_map_address(subject.frame(subject.planted[0])?)?;
    Ok(match is_mapped(address)? {
        true => Outcome::new(Class::Took, "mapped"),
        false => Outcome::new(Class::Absent, "a hole"),
    })
}
