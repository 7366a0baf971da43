// SPDX-License-Identifier: Apache-2.0
//! `/dev/mem`, mapped: the frame itself, past the direct map. A known leak without STRICT_DEVMEM, which operators have.

use std::fs::OpenOptions;

use anyhow::{Context, Result};
use secretvmm_canary::PAGE_SIZE;

use crate::area::Area;
use crate::probes::{Outcome, Subject};

pub(super) fn run(subject: &Subject<'_>) -> Result<Outcome> {
    let memory = OpenOptions::new().read(true).write(true).open("/dev/mem").context("Cannot open /dev/mem")?;
    let physical = subject.frame(subject.planted[0])? * PAGE_SIZE as u64;
    Ok(match Area::of_file_at(&memory, physical, PAGE_SIZE) {
        Ok(area) => {
            let mut page = [0; PAGE_SIZE];
            area.get(0, &mut page);
            subject.judge(&page)
        }
        Err(errno) => Outcome::refused(errno),
    })
}
