// SPDX-License-Identifier: Apache-2.0
//! What all looks came to.

use secretvmm_proof::examine::Findings;

use super::cell::Cell;
use super::report::{Look, Report};

/// The sum.
#[derive(Default)]
pub(super) struct Sum {
    /// Looks at a guest that is to be proved hidden, and at the control.
    pub(super) looks: (u32, u32),
    /// Guest frames over all looks, and how many of these a kernel half reached.
    pub(super) frames: u64,
    pub(super) reachable: u64,
    pub(super) objections: Vec<String>,
    pub(super) report: Report,
}

impl Sum {
    pub(super) fn add(&mut self, host: Cell, what: &str, findings: &Findings, objections: Vec<String>) {
        let Findings { guest_frames: frames, reachable, copies, .. } = *findings;
        self.report.looks.push(Look {
            host,
            what: what.into(),
            frames,
            reachable,
            copies,
            right: objections.is_empty(),
        });
        for objection in objections {
            println!("   OBJECTION: {objection}");
            self.objections.push(format!("{host}: {objection}"));
        }
    }
}
