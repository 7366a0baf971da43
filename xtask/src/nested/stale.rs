// SPDX-License-Identifier: Apache-2.0
//! Memory that is full of canary pages when the machine starts: a reset does not clear it.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};
use secretvmm_canary::{PAGE_SIZE, Seed};

/// Also in tests/nested/pool_stale.rs.
const STALE_SEED: u64 = 0x57a1e;

/// Writes a file of `bytes`, for QEMU to take as the machine's memory.
pub(super) fn write(path: &Path, bytes: u64) -> Result<()> {
    let seed = Seed::new(STALE_SEED);
    let fill = || {
        let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
        (0..bytes / PAGE_SIZE as u64).try_for_each(|number| file.write_all(&seed.page(number)))?;
        file.flush()
    };
    fill().with_context(|| format!("Cannot write {}", path.display()))
}
