// SPDX-License-Identifier: Apache-2.0
//! Blocks of memory that are taken offline: all that is in them would have to move.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fs;
use std::io::Error;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use secretmem::memlock;
use secretvmm_tests::area::Area;
use secretvmm_tests::host::fdinfo;
use secretvmm_tests::host::process::frames_of;
use secretvmm_tests::secret;

use crate::support::on_clean_host;

/// The blocks with the most secret pages, as others have pages of the kernel that keep them for reasons of their own.
#[test]
fn memory_with_secret_pages_is_not_taken_offline() -> Result<()> {
    on_clean_host(|| {
        memlock::make_room(SECRET_BYTES as u64)?;
        let file = secret::file(0, SECRET_BYTES)?;
        let memory = Area::of_file(&file, SECRET_BYTES)?;
        memory.touch();
        let before = frames_of(&memory)?;
        let fullest = fullest_blocks(&before)?;

        for &block in &fullest {
            ensure!(!offline(block)?, "Block {block} went offline with secret pages in it");
        }
        ensure!(frames_of(&memory)? == before, "Secret pages were moved");
        let info = fdinfo::of_file(&file)?;
        ensure!(info.direct_mapped == 0 && info.pages == before.len() as u64, "Not as it was: {info:?}");

        drop((memory, file));
        let taken = fullest.iter().find(|&&block| offline(block).is_ok_and(|done| done));
        let taken =
            taken.with_context(|| format!("INVALID: without secret pages, none of {fullest:?} goes offline"))?;
        fs::write(format!("{BLOCKS}/memory{taken}/state"), "online").context("Cannot bring it back")
    })
}

/// By its frame, not by an address in a process, which the kernel would refuse to look up.
#[test]
fn frame_taken_offline_moves_an_ordinary_page_and_no_secret_one() -> Result<()> {
    on_clean_host(|| {
        let ordinary = Area::private(4096)?;
        ordinary.touch();
        let before = frames_of(&ordinary)?;
        take_frame_offline(before[0]).context("INVALID: no frame can be taken offline")?;
        ensure!(frames_of(&ordinary)? != before, "INVALID: the control was not moved");

        for small in [false, true] {
            let file = secret::file(0, secret::HUGE_SIZE)?;
            let memory = Area::of_file(&file, secret::HUGE_SIZE)?;
            if small {
                memory.use_small_pages()?;
            }
            memory.touch();
            let before = frames_of(&memory)?;
            ensure!(take_frame_offline(before[7]).is_err(), "A secret frame was taken offline, small: {small}");
            ensure!(frames_of(&memory)? == before, "A secret page was moved, small: {small}");
            let info = fdinfo::of_file(&file)?;
            ensure!(info.direct_mapped == 0 && info.pages == before.len() as u64, "Not as it was: {info:?}");
        }
        Ok(())
    })
}

/// Secret memory that fills whole blocks.
const SECRET_BYTES: usize = 1 << 30;
/// Blocks to try; each refusal takes its time.
const TRIED: usize = 2;
/// Documentation/admin-guide/mm/memory-hotplug.rst.
const BLOCKS: &str = "/sys/devices/system/memory";

/// Has the kernel do without a frame, whose contents it moves.
fn take_frame_offline(frame: u64) -> Result<(), Error> {
    fs::write(format!("{BLOCKS}/soft_offline_page"), format!("{:#x}", frame * 4096))
}

/// The blocks of memory that have the most of these frames.
fn fullest_blocks(frames: &[u64]) -> Result<Vec<u64>> {
    let block_bytes = hexadecimal(&format!("{BLOCKS}/block_size_bytes"))?;
    let mut counts = BTreeMap::<u64, usize>::new();
    for frame in frames {
        *counts.entry(frame * 4096 / block_bytes).or_default() += 1;
    }
    let mut counts = counts.into_iter().collect::<Vec<_>>();
    counts.sort_unstable_by_key(|&(_, count)| Reverse(count));
    Ok(counts.into_iter().map(|(block, _)| block).take(TRIED).collect())
}

/// Whether a block goes offline. The kernel tries for good until a signal ends it.
fn offline(block: u64) -> Result<bool> {
    let script = format!("echo offline >{BLOCKS}/memory{block}/state");
    let mut command = Command::new("timeout");
    command.args(["--signal=INT", "--kill-after=60", "10", "bash", "-c", &script]);
    Ok(command.output().context("Cannot run a shell")?.status.success())
}

fn hexadecimal(path: &str) -> Result<u64> {
    let text = fs::read_to_string(path).with_context(|| format!("Cannot read {path}"))?;
    u64::from_str_radix(text.trim(), 16).with_context(|| format!("{path} is no number: {text}"))
}
