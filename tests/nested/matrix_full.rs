// SPDX-License-Identifier: Apache-2.0
//! The matrix at every other moment, and many more VMMs killed (`--full`).

use anyhow::Result;
use secretvmm_tests::matrix::{Moment, Yama, run, verdict};
use secretvmm_tests::residues;

use crate::matrix::plan;
use crate::support::on_clean_host;

#[test]
fn under_io_every_cell_is_as_expected() -> Result<()> {
    verdict(&run(&plan(&[Moment::Io], Yama::Open))?)
}

#[test]
fn after_a_reboot_every_cell_is_as_expected() -> Result<()> {
    verdict(&run(&plan(&[Moment::Rebooted], Yama::Open))?)
}

#[test]
fn two_hundred_vmms_killed_during_io_leave_nothing() -> Result<()> {
    on_clean_host(|| residues::run(200, 2))
}
