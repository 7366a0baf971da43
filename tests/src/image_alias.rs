// SPDX-License-Identifier: Apache-2.0
//! Secret memory on frames that the kernel's image has given back.
//!
//! The image maps its frames a second time, at its own addresses, beside the direct map. Ordinary memory is given nearly
//! all of a small host, and then gives back the frames of the image alone: they are the largest pieces that are free, so
//! secret memory gets them next. `/proc/kcore` tells whether the second mapping still reaches them.

use std::fs;
use std::process;

use anyhow::{Context, Result};
use secretmem::memlock;
use secretvmm_canary::{PAGE_SIZE, Seed};

use crate::area::Area;
use crate::guest::Canary;
use crate::host::direct_map::meminfo_bytes;
use crate::host::process::{MappedPage, resident_pages};
use crate::probes::{Tally, Target, kcore};
use crate::secret;

/// Taken in one go, between two looks at what is left.
const STEP: usize = 128 << 10;
/// Left by the ordinary memory.
const SPARED: u64 = 6 << 20;
/// Left by the secret memory, in turn, until it has such frames: the less is left, the busier the kernel's reclaim.
const SPARED_IN_THE_END: [u64; 5] = [8 << 19, 7 << 19, 6 << 19, 5 << 19, 4 << 19];
/// Pages given back after those of the image, since each CPU keeps the last few for itself.
const LAST: usize = 1024;

/// The kernel's own reserve is small and stays so (fragmentation would quadruple it for a while, and what is left
/// here would be less than that: an out-of-memory kill), and no CPU keeps free pages for itself.
const SETTINGS: [(&str, &str); 4] = [
    ("percpu_pagelist_high_fraction", "100000"),
    ("watermark_boost_factor", "0"),
    ("min_free_kbytes", "1024"),
    ("drop_caches", "3"),
];

/// What kcore brought back from frames of the image.
#[derive(Debug)]
pub struct Found {
    /// Such frames that the memory got, a canary in each.
    pub frames: u64,
    /// What was read of them.
    pub tally: Tally,
}

/// What kcore brought back of the same frames, in whose hands they were.
#[derive(Debug)]
pub struct Findings {
    /// The control: ordinary memory, which the direct map shows.
    pub ordinary: Found,
    /// Secret memory.
    pub secret: Found,
}

/// Puts ordinary and then secret memory on frames of the image.
///
/// # Errors
/// There is no secret memory, or kcore does not work.
pub fn probe() -> Result<Findings> {
    for (file, value) in SETTINGS {
        fs::write(format!("/proc/sys/vm/{file}"), value).with_context(|| format!("Cannot set vm.{file}"))?;
    }
    let free = usize::try_from(free_memory()?)? / STEP * STEP;
    let ordinary = Area::ordinary(free).context("Cannot map ordinary memory")?;
    fill(&ordinary, 0, SPARED)?;
    let control = read(&ordinary)?;

    let length = (usize::try_from(control.frames)? * PAGE_SIZE + LAST * PAGE_SIZE + SPARED as usize) / STEP * STEP;
    memlock::make_room(length as u64)?;
    let file = secret::file(0, length).context("Cannot create secret memory")?;
    let secret = Area::of_file(&file, length).context("Cannot map it")?;
    secret.use_small_pages().context("No huge pages to do without")?;
    release(&ordinary)?;
    let mut taken = 0;
    for left in SPARED_IN_THE_END {
        taken = fill(&secret, taken, left)?;
        if !pages_of_image(&secret)?.is_empty() {
            break;
        }
    }
    Ok(Findings { ordinary: control, secret: read(&secret)? })
}

/// Touches memory from an offset on until no more than so much is left; gives the offset it got to.
fn fill(memory: &Area, from: usize, left: u64) -> Result<usize> {
    for start in (from..memory.length()).step_by(STEP) {
        if free_memory()? < left {
            return Ok(start);
        }
        (start..start + STEP).step_by(PAGE_SIZE).for_each(|offset| memory.put(offset, &[1]));
    }
    Ok(memory.length())
}

/// Gives the frames of the image back, and then some others, no two of them neighbours.
fn release(memory: &Area) -> Result<()> {
    let offset = |hva: u64| usize::try_from(hva - memory.address());
    for page in pages_of_image(memory)? {
        memory.release(offset(page.hva)?)?;
    }
    for number in 0..LAST {
        memory.release(2 * number * PAGE_SIZE)?;
    }
    Ok(())
}

fn free_memory() -> Result<u64> {
    meminfo_bytes("MemFree:")?.context("No MemFree in /proc/meminfo")
}

/// Plants a canary in each frame of the image that we have, and looks for them.
fn read(memory: &Area) -> Result<Found> {
    let pages = pages_of_image(memory)?;
    let canary = Canary { seed: Seed::new(memory.address() ^ u64::from(process::id())), pages: pages.len() as u64 };
    for (index, page) in (0..).zip(&pages) {
        memory.put(usize::try_from(page.hva - memory.address())?, &canary.seed.page(index));
    }
    let target = Target { pid: process::id(), pages, canary };
    Ok(Found { frames: canary.pages, tally: kcore::run(&target)? })
}

/// Our pages that lie on frames of the kernel's image.
fn pages_of_image(memory: &Area) -> Result<Vec<MappedPage>> {
    let image = kcore::image_frames()?;
    let ours = memory.address()..memory.address() + memory.length() as u64;
    let mut pages = resident_pages(process::id())?;
    pages.retain(|page| ours.contains(&page.hva) && image.contains(&page.pfn));
    Ok(pages)
}
