// SPDX-License-Identifier: Apache-2.0
//! The systems whose memory the report draws.

use secretvmm_proof::examine::Findings;

/// What the kernel and its memory are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum System {
    /// Debian's kernel and a process with secret memory: it runs no guest on that.
    Stock,
    /// With the series.
    Series,
    /// With the series, memory from the boot pool.
    Pool,
}

impl System {
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Stock => "Stock secretmem",
            Self::Series => "This series",
            Self::Pool => "This series, boot pool",
        }
    }
}

/// What was found before, during and after.
pub(super) type Moments = [Findings; 3];
