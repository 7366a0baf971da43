// SPDX-License-Identifier: Apache-2.0
//! The memory of compiled BPF programs, which splits the direct map for a reason that is not ours.
//!
//! The kernel compiles seccomp filters (`net.core.bpf_jit_enable`), also those of `secretvmm`, into an area of 2 MiB
//! that all programs share (`bpf_prog_pack_alloc` in kernel/bpf/core.c). Its frames become read-only in the direct
//! map, page by page; it goes with its last program, and the split entries stay. A host with systemd has programs all
//! the time, and the nested host has none.

use std::sync::mpsc::channel;
use std::thread::{park, spawn};

use anyhow::{Context, Result};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};

/// Keeps the area for as long as this process lives, so that what [`super::direct_map`] tells of before and after is
/// about secret memory.
///
/// # Errors
/// The kernel takes no filter.
pub fn keep() -> Result<()> {
    let filter = SeccompFilter::new([].into(), SeccompAction::Allow, SeccompAction::Trap, TargetArch::x86_64);
    let program: BpfProgram = filter.and_then(TryInto::try_into).context("No filter that allows all")?;
    let (said, hears) = channel();
    spawn(move || {
        let applied = seccompiler::apply_filter(&program);
        if said.send(applied).is_ok() {
            loop {
                park();
            }
        }
    });
    hears.recv().context("The thread with the filter has ended")?.context("The kernel takes no filter")
}
