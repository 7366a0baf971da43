// SPDX-License-Identifier: Apache-2.0
//! What holds at the very moment when pages leave the direct map and when they come back, and not only some time later.

use std::fs::File;

use anyhow::{Context, Result, ensure};
use secretvmm_tests::area::Area;
use secretvmm_tests::host::process::frames_of;
use secretvmm_tests::host::witness::Witness;
use secretvmm_tests::secret::{self, HUGE, HUGE_SIZE};

use crate::support::on_clean_host;

/// A translation that was not flushed may be gone by chance, but not each time.
const ROUNDS: usize = 20;

/// Pages are zeroed through the direct map just before they leave it, so each has a translation in that CPU's TLB.
#[test]
fn fresh_pages_are_in_no_tlb_after_a_fault() -> Result<()> {
    no_translation_is_left(|_, _| Ok(()))
}

#[test]
fn fresh_pages_are_in_no_tlb_after_fallocate() -> Result<()> {
    no_translation_is_left(|file, memory| Ok(secret::populate(file, 0, memory.length() as i64)?))
}

fn no_translation_is_left(populate: impl Fn(&File, &Area) -> Result<()>) -> Result<()> {
    on_clean_host(|| {
        let witness = Witness::load()?;
        for huge in [false, true] {
            for _ in 0..ROUNDS {
                let (file, memory) = secret_memory(huge)?;
                populate(&file, &memory)?;
                memory.touch();
                let frames = frames_of(&memory)?;
                let touched = witness.touch(&frames)?;
                ensure!(!touched.is_empty(), "INVALID: no CPU was asked");
                ensure!(touched.iter().all(|cpu| cpu.readable == 0), "Just after they were hidden: {touched:?}");
                let _wound = witness.wound("direct", frames[0])?;
                let touched = witness.touch(&frames)?;
                ensure!(touched.iter().all(|cpu| cpu.readable == 4096), "INVALID: the control: {touched:?}");
            }
        }
        Ok(())
    })
}

#[test]
fn pages_are_zero_before_the_direct_map_has_them_again() -> Result<()> {
    on_clean_host(|| {
        let witness = Witness::load()?;
        for huge in [false, true] {
            let (file, memory) = secret_memory(huge)?;
            memory.touch();
            let frames = frames_of(&memory)?;
            let frame = *frames.first().context("No page is there")?;
            let watch = witness.watch_restored()?;
            drop(witness.wound("direct", frame)?);
            let control = watch.seen()?;
            ensure!(
                control.pages == 1 && control.filled == 1,
                "INVALID: a page that is in use was seen as {control:?}"
            );
            drop(memory);
            drop(file);
            let seen = watch.seen()?;
            let all = control.pages + frames.len() as u64;
            ensure!(seen.missed == 0 && seen.pages >= all, "INVALID: of {} only {seen:?} came back", frames.len());
            ensure!(seen.filled == control.filled, "Came back as they were: {seen:?}");
        }
        Ok(())
    })
}

/// One page of 2 MiB, or half as much in pages of 4 KiB.
fn secret_memory(huge: bool) -> Result<(File, Area)> {
    let (flags, length) = if huge { (HUGE, HUGE_SIZE) } else { (0, HUGE_SIZE / 2) };
    let file = secret::file(flags, length).context("Cannot create secret memory")?;
    let memory = Area::of_file(&file, length).context("Cannot map it")?;
    Ok((file, memory))
}
