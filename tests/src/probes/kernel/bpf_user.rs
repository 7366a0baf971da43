// SPDX-License-Identifier: Apache-2.0
//! BPF's `bpf_probe_read_user()` while the VMM's own process is the current one: a known leak, since guest RAM is mapped
//! there.

use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;

use super::bpf::{PROBE_READ_USER, Page, Program};
use crate::probes::{Class, Outcome, Subject};

/// A process that has nothing to do is switched to and from all the same, once a second at the least.
const TRIES: u32 = 500;

pub(super) fn run(subject: &Subject<'_>) -> Result<Outcome> {
    let page = Page::new()?;
    let program = Program::load(&page, PROBE_READ_USER, subject.planted[0], Some(subject.pid()))?;
    let _attached = program.attach(c"sched_switch")?;
    let mut outcome = Outcome::new(Class::Absent, "");
    for _ in 0..TRIES {
        // It wakes the process up.
        let _ = std::fs::read(format!("/proc/{}/stat", subject.pid()));
        sleep(Duration::from_millis(10));
        outcome = subject.judge(&page.contents()?);
        if outcome.class == Class::Hit {
            break;
        }
    }
    Ok(outcome)
}
