// SPDX-License-Identifier: Apache-2.0
//! The order of things: what can fail comes before what cannot be undone.

use nix::sched::{CloneFlags, setns};

use crate::error::Error;
use crate::made::Made;
use crate::plan::Plan;
use crate::times::Times;
use crate::{jail, process, root};

/// Builds the jail and becomes the VMM, or starts it and returns.
///
/// # Errors
/// Nothing was started. What had been made is gone, unless the jail was entered already.
pub(crate) fn run(plan: &Plan, times: Times) -> Result<(), Error> {
    process::close_others()?;
    let null = process::null()?;
    if let Some(netns) = &plan.netns {
        setns(netns, CloneFlags::CLONE_NEWNET).map_err(Error::call("Joining the network namespace (setns)"))?;
    }
    let mut made = Made::default();
    jail::build(plan, &mut made)?;
    if let Some(cgroup) = &plan.cgroup {
        cgroup.join(&mut made)?;
    }
    root::enter(&plan.root)?;
    made.keep();
    process::start(plan, times, null)
}
