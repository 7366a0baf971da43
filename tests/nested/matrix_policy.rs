// SPDX-License-Identifier: Apache-2.0
//! The matrix once more, where yama forbids all debugging for good: policy is told from what the memory refuses.

use anyhow::Result;
use secretvmm_tests::matrix::{Moment, Yama, run, verdict};

use crate::matrix::plan;

#[test]
fn without_debuggers_every_cell_is_as_expected() -> Result<()> {
    verdict(&run(&plan(&[Moment::Booted], Yama::NoDebugger))?)
}
