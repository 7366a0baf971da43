//! How long 1 GiB takes to come and to go. On a host that counts instructions as time, that is a count of instructions.

use std::time::Instant;

use anyhow::Result;

use super::memory::{Backing, Memory, warm_up};
use super::row;

const BYTES: u64 = 1 << 30;

/// Measures one backing and prints its rows.
///
/// # Errors
/// The kernel does not give the memory.
pub fn measure(backing: Backing) -> Result<()> {
    let subject = backing.name();
    if let Some(why) = backing.missing(BYTES)? {
        return row::absent(subject, "all", why);
    }
    warm_up(backing)?;
    let begun = Instant::now();
    let memory = Memory::map(backing, BYTES)?;
    memory.fill()?;
    let filled = begun.elapsed();
    let begun = Instant::now();
    drop(memory);
    let freed = begun.elapsed();
    row::figure(subject, "fill_ns", u64::try_from(filled.as_nanos())?)?;
    row::figure(subject, "free_ns", u64::try_from(freed.as_nanos())?)
}
