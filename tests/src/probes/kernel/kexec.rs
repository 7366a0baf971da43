// SPDX-License-Identifier: Apache-2.0
//! Another kernel that would find all memory as it is: whether one may be loaded. A known leak of the lab kernel;
//! an operator's has no kexec.

use anyhow::Result;

use crate::probes::{Outcome, Subject};
use crate::sys;

pub(super) fn run(_subject: &Subject<'_>) -> Result<Outcome> {
    Ok(Outcome::took(sys::kexec_unload()))
}
