// SPDX-License-Identifier: Apache-2.0
//! How long 1 GiB takes to come and to go. On a host that counts instructions as time, that is a count of instructions.

use std::time::Instant;

use anyhow::Result;

use super::memory::{Memory, MemoryKind, warm_up};
use super::row;

const BYTES: u64 = 1 << 30;

/// Measures one backing and prints its rows.
///
/// # Errors
/// The kernel does not give the memory.
pub fn measure(backing: MemoryKind) -> Result<()> {
    let measured = backing.name();
    if let Some(why) = backing.missing(BYTES)? {
        return row::absent(measured, "all", why);
    }
    warm_up(backing)?;
    let begun = Instant::now();
    let memory = Memory::map(backing, BYTES)?;
    memory.fill()?;
    let filled = begun.elapsed();
    let begun = Instant::now();
    drop(memory);
    let freed = begun.elapsed();
    row::figure(measured, "fill_ns", u64::try_from(filled.as_nanos())?)?;
    row::figure(measured, "free_ns", u64::try_from(freed.as_nanos())?)
}
