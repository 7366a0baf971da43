// SPDX-License-Identifier: Apache-2.0
//! The matrix of probes and the search for residues, on a lab host with two nodes and a pool.

use anyhow::Result;
use secretvmm_tests::matrix::{Moment, Plan, TargetKind, Yama, run, verdict};
use secretvmm_tests::residues;

use crate::support::on_clean_host;

#[test]
fn just_booted_every_cell_is_as_expected() -> Result<()> {
    verdict(&run(&plan(&[Moment::Booted], Yama::Open))?)
}

#[test]
fn vmms_killed_during_io_leave_nothing() -> Result<()> {
    on_clean_host(|| residues::run(4, 1))
}

/// All targets at some moments.
pub(crate) fn plan(moments: &[Moment], yama: Yama) -> Plan {
    use clap::ValueEnum;
    Plan { targets: TargetKind::value_variants().to_vec(), moments: moments.to_vec(), yama, filter: None }
}
