// SPDX-License-Identifier: Apache-2.0
//! What 2 GiB do to the host: while they are there, and after they are gone.

use anyhow::Result;

use super::flushes::Flushes;
use super::memory::{Memory, MemoryKind};
use super::row;
use super::stage2::touch_all;
use super::work::Work;
use crate::host::direct_map::DirectMap;
use crate::host::stage2::Stage2;

/// Size of the memory and of the guest on it.
const BYTES: u64 = 2 << 30;

/// Measures one backing and prints its rows.
///
/// # Errors
/// Something failed that every kernel of these benches can do.
pub fn measure(backing: MemoryKind, work: &Work) -> Result<()> {
    let measured = backing.name();
    if let Some(why) = backing.missing(BYTES)? {
        return row::absent(measured, "all", why);
    }
    row::figure(measured, "work_before_us", work.best_us()?)?;
    // Setting probes changes the direct map (pages of code are read-only there), so it comes first.
    let flushes = Flushes::watch()?;

    let (before, flushes_before) = (DirectMap::now()?, flushes.count()?);
    let memory = Memory::map(backing, BYTES)?;
    memory.fill()?;
    let (with, flushes_with) = (DirectMap::now()?, flushes.count()?);
    print_stage2(measured, touch_all(&memory)?)?;
    row::figure(measured, "work_with_us", work.best_us()?)?;
    let flushes_with_all = flushes.count()?;
    drop(memory);
    let (after, flushes_after) = (DirectMap::now()?, flushes.count()?);
    row::figure(measured, "work_after_us", work.best_us()?)?;

    row::figure(measured, "splits_2m", with.splits_2m - before.splits_2m)?;
    row::figure(measured, "splits_1g", with.splits_1g - before.splits_1g)?;
    row::figure(measured, "flushes_fill", flushes_with - flushes_before)?;
    row::figure(measured, "flushes_free", flushes_after - flushes_with_all)?;
    for (moment, map) in [("before", before), ("with", with), ("after", after)] {
        row::figure(measured, &format!("direct_4k_kib_{moment}"), map.kib_4k)?;
        row::figure(measured, &format!("direct_2m_kib_{moment}"), map.kib_2m)?;
        row::figure(measured, &format!("direct_1g_kib_{moment}"), map.kib_1g)?;
    }
    Ok(())
}

fn print_stage2(measured: &str, stage2: Option<Stage2>) -> Result<()> {
    let Some(Stage2 { pages_4k, pages_2m, pages_1g }) = stage2 else {
        return row::absent(measured, "stage2_4k", "KVM does not run on it (EFAULT)");
    };
    row::figure(measured, "stage2_4k", pages_4k)?;
    row::figure(measured, "stage2_2m", pages_2m)?;
    row::figure(measured, "stage2_1g", pages_1g)
}
