// SPDX-License-Identifier: Apache-2.0
//! The matrix at every other moment where yama forbids all debugging (`--full`).

use anyhow::Result;
use secretvmm_tests::matrix::{Moment, Yama, run, verdict};

use crate::matrix::plan;

#[test]
fn under_io_without_debuggers_every_cell_is_as_expected() -> Result<()> {
    verdict(&run(&plan(&[Moment::Io], Yama::NoDebugger))?)
}

#[test]
fn after_a_reboot_without_debuggers_every_cell_is_as_expected() -> Result<()> {
    verdict(&run(&plan(&[Moment::Rebooted], Yama::NoDebugger))?)
}
