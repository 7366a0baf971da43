// SPDX-License-Identifier: Apache-2.0
//! What may move, merge, swap or withhold a page behind its owner's back: nothing of the kind may happen to hidden
//! memory. Frames are compared before and after; swapped pages are looked for on the swap device.

use super::MatrixProbe;

mod collapse;
mod compaction;
mod ksm;
mod migrate_pages;
mod move_pages;
mod soft_offline;
mod swap;
mod userfaultfd;

const STAYS: &str = "KSM, khugepaged, swap, migration, compaction, soft-offline, userfaultfd";

pub(super) const PROBES: &[MatrixProbe] = &[
    MatrixProbe::new("userfaultfd, missing", STAYS, userfaultfd::missing),
    MatrixProbe::new("userfaultfd, write protection", STAYS, userfaultfd::write_protect),
    MatrixProbe::new("userfaultfd, write protection, async", STAYS, userfaultfd::write_protect_async),
    MatrixProbe::new("move_pages", STAYS, move_pages::run),
    MatrixProbe::new("migrate_pages", STAYS, migrate_pages::run),
    MatrixProbe::new("compaction", STAYS, compaction::run),
    MatrixProbe::new("soft offline", STAYS, soft_offline::run),
    MatrixProbe::new("KSM", STAYS, ksm::run),
    MatrixProbe::new("MADV_COLLAPSE (khugepaged)", STAYS, collapse::run),
    MatrixProbe::new("MADV_PAGEOUT to swap", STAYS, swap::run),
];
