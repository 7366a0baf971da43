// SPDX-License-Identifier: Apache-2.0
//! BPF's `bpf_probe_read_kernel()` at a frame's address in the direct map.

use anyhow::Result;
use nix::errno::Errno;

use super::bpf::{PROBE_READ_KERNEL, Page, Program};
use crate::probes::{Outcome, Subject, kcore};

pub(super) fn run(subject: &Subject<'_>) -> Result<Outcome> {
    let address = kcore::direct_map_address(subject.frame(subject.planted[0])?)?;
    let page = Page::new()?;
    let returned = Program::load(&page, PROBE_READ_KERNEL, address, None)?.run()?;
    Ok(match returned {
        0 => subject.judge(&page.contents()?),
        errno => Outcome::refused(Errno::from_raw(-errno)),
    })
}
