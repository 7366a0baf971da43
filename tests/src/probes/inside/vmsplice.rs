// SPDX-License-Identifier: Apache-2.0
//! `vmsplice(2)`: the pages themselves into a pipe.

use std::io::Read;

use anyhow::Result;
use secretvmm_canary::PAGE_SIZE;

use crate::probes::{Outcome, Subject};
use crate::tracee::Tracee;

pub(super) fn run(subject: &Subject<'_>) -> Result<Outcome> {
    let mut tracee = Tracee::attach(subject.pid())?;
    let (mut reader, writer) = tracee.pipe()?;
    let range = tracee.put_words(&[subject.planted[0], PAGE_SIZE as u64])?;
    let spliced = tracee.call(libc::SYS_vmsplice, &[writer, range, 1, 0])?;
    tracee.close(writer)?;
    let mut page = Vec::new();
    Ok(match spliced {
        Ok(_) => {
            reader.read_to_end(&mut page)?;
            subject.judge(&page)
        }
        Err(errno) => Outcome::refused(errno),
    })
}
