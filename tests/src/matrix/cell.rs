// SPDX-License-Identifier: Apache-2.0
//! One result of the matrix, and the file of all of them.
//!
//! `target/matrix.json` is an array of these objects, in the order in which the probes ran:
//!
//! ```json
//! {"probe": "process_vm_readv", "row": "process_vm_readv/writev", "target": "secret-2m", "moment": "booted",
//!  "yama": 0, "result": "REFUSED", "errno": "EFAULT", "expected": "EFAULT", "ok": true, "detail": "refused, …"}
//! ```
//!
//! | Key | Values |
//! |---|---|
//! | `probe` | name, unique |
//! | `row` | the row of the design's table |
//! | `target` | `anonymous`, `memfd`, `secret-4k`, `secret-2m`, `secret-pool` |
//! | `moment` | `booted`, `io`, `rebooted` |
//! | `yama` | ptrace_scope, 0 or 3 |
//! | `result` | `HIT`, `TOOK`, `ABSENT`, `STAYED`, `REFUSED`, `POLICY`, `NOT_APPLICABLE`, `INVALID` |
//! | `errno` | of `REFUSED` and `POLICY`, else null |
//! | `expected` | the table's word: a result, or an errno for a refusal by the memory |
//! | `ok` | whether the two agree |
//! | `detail` | counts and reasons, for people |

use serde::{Deserialize, Serialize};

use super::Moment;
use super::expectations::{Expectation, Yama};
use super::target::TargetKind;
use crate::probes::{Class, MatrixProbe, Outcome};

/// What a line of the program's output starts with; JSON follows.
pub const LINE: &str = "cell: ";

/// One result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    /// The probe's name.
    pub probe: String,
    /// The row of the design's table.
    pub row: String,
    /// What was probed.
    pub target: TargetKind,
    /// When.
    pub moment: Moment,
    /// ptrace_scope.
    pub yama: u8,
    /// What came of it.
    pub result: Class,
    /// Of a refusal.
    pub errno: Option<String>,
    /// What the table has.
    pub expected: String,
    /// Whether that is what came.
    pub ok: bool,
    /// For people.
    pub detail: String,
}

impl Cell {
    /// Compares a result with the table's row for its probe.
    pub(super) fn new(
        probe: &MatrixProbe,
        target: TargetKind,
        moment: Moment,
        yama: Yama,
        outcome: Outcome,
        expectation: &Expectation,
    ) -> Self {
        let expected = expectation.word(target, yama);
        Cell {
            probe: probe.name.into(),
            row: probe.row.into(),
            target,
            moment,
            yama: yama as u8,
            result: outcome.class,
            errno: outcome.errno.map(|errno| format!("{errno:?}")),
            ok: expected == outcome.word(),
            expected: expected.to_owned(),
            detail: outcome.detail,
        }
    }

    /// The result in the table's words.
    pub fn word(&self) -> &str {
        match (self.result, &self.errno) {
            (Class::Refused, Some(errno)) => errno,
            (class, _) => class.word(),
        }
    }
}
