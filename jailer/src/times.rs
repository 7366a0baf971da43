// SPDX-License-Identifier: Apache-2.0
//! What the jailer itself takes, which the VMM is told as Firecracker is.

use std::ffi::OsString;

use nix::time::{ClockId, clock_gettime};

/// The clocks when this program began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    wall_us: i64,
}

fn micros(clock: ClockId) -> i64 {
    // A clock that is not there is reported as 0, which the VMM takes for "not known".
    clock_gettime(clock).map_or(0, |time| time.tv_sec() * 1_000_000 + time.tv_nsec() / 1000)
}

impl Times {
    /// Reads them.
    pub(crate) fn at_start() -> Self {
        Times { wall_us: micros(ClockId::CLOCK_MONOTONIC) }
    }

    /// `--start-time-us`, `--start-time-cpu-us` and what the parent used of a CPU before a fork, if there was one.
    pub(crate) fn arguments(self, parent_cpu_us: Option<i64>) -> Vec<OsString> {
        let mut arguments =
            vec![format!("--start-time-us={}", self.wall_us), format!("--start-time-cpu-us={}", Self::cpu_us())];
        arguments.extend(parent_cpu_us.map(|us| format!("--parent-cpu-time-us={us}")));
        arguments.into_iter().map(Into::into).collect()
    }

    /// CPU time of this process so far, in microseconds.
    pub(crate) fn cpu_us() -> i64 {
        micros(ClockId::CLOCK_PROCESS_CPUTIME_ID)
    }
}
