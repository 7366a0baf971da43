// SPDX-License-Identifier: Apache-2.0
//! Another VM on the same file: a thief's guest copies what its second memslot has to a page of the thief's own.

use anyhow::Result;
use secretvmm_canary::PAGE_SIZE;

use super::another_vm_guest::copy_page;
use crate::area::Area;
use crate::probes::{Outcome, Subject};

pub(super) fn run(subject: &Subject<'_>) -> Result<Outcome> {
    let file = subject.stolen_ram()?;
    let stolen = match Area::of_file(&file, usize::try_from(subject.ram.end - subject.ram.start)?) {
        Ok(area) => area,
        Err(errno) => return Ok(Outcome::refused(errno)),
    };
    let own = Area::ordinary(16 * PAGE_SIZE)?;
    let page = copy_page(&own, &stolen, subject.offset(subject.planted[0]))?;
    Ok(subject.judge(&page))
}
