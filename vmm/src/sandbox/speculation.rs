// SPDX-License-Identifier: Apache-2.0
//! What runs beside a vCPU on its core, and what it leaves there for whoever comes next.

use std::fs;

use rustix::io::Errno;
use rustix::process::{SpeculationFeature, SpeculationFeatureControl, control_speculative_feature};
use rustix::thread::{CoreSchedulingScope, create_core_scheduling_cookie, gettid};

/// Has the calling thread, and those that it starts from now on, share a core with each other only: the hardware's other
/// threads idle meanwhile (Documentation/admin-guide/hw-vuln/core-scheduling.rst). Whether that is so.
pub(super) fn own_core() -> bool {
    // Without a second thread on any core there is nobody to share one with.
    if fs::read_to_string("/sys/devices/system/cpu/smt/active").is_ok_and(|active| active.trim() == "0") {
        return true;
    }
    match create_core_scheduling_cookie(gettid(), CoreSchedulingScope::Thread) {
        Ok(()) | Err(Errno::NODEV) => true,
        Err(err) => {
            log::info!("vCPUs may share a core with other processes, as the kernel has no core scheduling: {err}");
            false
        }
    }
}

/// Has the calling thread leave that core to the threads that it has started. Without core scheduling there is nothing to
/// leave.
pub(super) fn leave_core() {
    if let Err(err) = create_core_scheduling_cookie(gettid(), CoreSchedulingScope::Thread) {
        log::debug!("the main thread has no core to leave: {err}");
    }
}

/// Has the kernel keep branch predictions and the first cache of the calling thread from other processes, where the
/// processor does not do so and the operator has left it to programs
/// (Documentation/userspace-api/spec_ctrl.rst).
pub(super) fn keep_from_others() {
    for (feature, setting) in [
        (SpeculationFeature::IndirectBranchSpeculation, SpeculationFeatureControl::DISABLE),
        // "Enabled" is here that it is flushed.
        (SpeculationFeature::FlushL1DCacheOnContextSwitchOutOfTask, SpeculationFeatureControl::ENABLE),
    ] {
        if let Err(err) = control_speculative_feature(feature, setting) {
            log::debug!("{feature:?} is not this thread's to set: {err}");
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use rustix::process::{SpeculationFeatureState, speculative_feature_state};
    use rustix::thread::core_scheduling_cookie;

    use super::*;

    fn has_smt() -> bool {
        fs::read_to_string("/sys/devices/system/cpu/smt/active").unwrap_or_default().trim() == "1"
    }

    #[test]
    fn own_core_is_shared_with_threads_that_follow_and_no_other() {
        let cookie = || core_scheduling_cookie(gettid(), CoreSchedulingScope::Thread).ok();
        let (parent, child) = std::thread::scope(|scope| {
            let parent = scope.spawn(|| {
                assert!(own_core() || has_smt());
                (cookie(), std::thread::spawn(cookie).join().unwrap())
            });
            parent.join().unwrap()
        });
        assert_eq!(parent, child);
        // Where there is SMT and the kernel knows cookies, this thread has another.
        assert!(parent.is_none() || parent != cookie(), "{parent:?}");
    }

    #[test]
    fn branch_predictions_are_kept_from_others_where_a_thread_may_say_so() {
        std::thread::spawn(|| {
            keep_from_others();
            let state = speculative_feature_state(SpeculationFeature::IndirectBranchSpeculation).unwrap().unwrap();
            let open = SpeculationFeatureState::PRCTL | SpeculationFeatureState::ENABLE;
            assert_ne!(state, open);
        })
        .join()
        .unwrap();
    }
}
