// SPDX-License-Identifier: Apache-2.0
//! `MADV_SOFT_OFFLINE`: a page that is about to fail is taken out of use, its contents going to another frame.

use anyhow::Result;
use secretvmm_canary::PAGE_SIZE;

use crate::probes::{Outcome, Subject};
use crate::tracee::Tracee;

pub(super) fn run(subject: &Subject<'_>) -> Result<Outcome> {
    subject.moved_by(|| {
        let mut tracee = Tracee::attach(subject.pid())?;
        let advice = libc::MADV_SOFT_OFFLINE as u64;
        Ok(tracee.call(libc::SYS_madvise, &[subject.planted[1], PAGE_SIZE as u64, advice])?.map(drop))
    })
}
