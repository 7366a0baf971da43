// SPDX-License-Identifier: Apache-2.0
//! `process_vm_writev(2)` by the VMM, into the prober: its own memory, so a known leak.

use anyhow::Result;
use secretvmm_canary::PAGE_SIZE;

use crate::area::Area;
use crate::probes::{Outcome, Subject};
use crate::tracee::Tracee;

pub(super) fn run(subject: &Subject<'_>) -> Result<Outcome> {
    let copy = Area::ordinary(PAGE_SIZE)?;
    let mut tracee = Tracee::attach(subject.pid())?;
    let from = tracee.put_words(&[subject.planted[0], PAGE_SIZE as u64])?;
    let to = tracee.put_words(&[copy.address(), PAGE_SIZE as u64])?;
    let here = u64::from(std::process::id());
    match tracee.call(libc::SYS_process_vm_writev, &[here, from, 1, to, 1, 0])? {
        Ok(_) => {
            let mut page = [0; PAGE_SIZE];
            copy.get(0, &mut page);
            Ok(subject.judge(&page))
        }
        Err(errno) => Ok(Outcome::refused(errno)),
    }
}
