// SPDX-License-Identifier: Apache-2.0
//! A kernel for after a crash, which would find all memory as it was in /proc/vmcore: whether one may be loaded. A known
//! leak of the lab kernel; an operator's has no crash dump.

use std::fs::File;

use anyhow::{Context, Result};

use crate::artifacts::{GUEST_BZIMAGE, artifact};
use crate::probes::{Outcome, Subject};
use crate::sys;

pub(super) fn run(_subject: &Subject<'_>) -> Result<Outcome> {
    let path = artifact(GUEST_BZIMAGE)?;
    let kernel = File::open(&path).with_context(|| format!("Cannot open {}", path.display()))?;
    let loaded = sys::kexec_load_for_crash(&kernel);
    if loaded.is_ok() {
        sys::kexec_unload_for_crash()?;
    }
    Ok(Outcome::took(loaded))
}
