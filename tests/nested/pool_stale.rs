// SPDX-License-Identifier: Apache-2.0
//! A machine whose memory still has what was there before it was reset (`cargo xtask host --stale`): secret memory begins
//! with zeroes, from the pool too, which nobody has zeroed before it.

use anyhow::{Result, ensure};
use secretmem::memlock;
use secretvmm_canary::{PAGE_SIZE, Seed};
use secretvmm_tests::area::Area;
use secretvmm_tests::host::direct_map::meminfo_bytes;
use secretvmm_tests::host::physical;
use secretvmm_tests::host::witness::Witness;
use secretvmm_tests::report::figure;
use secretvmm_tests::secret::{self, HUGE, HUGE_SIZE, POOL};

use crate::support::on_clean_host;

/// What the memory is full of: `STALE_SEED` in xtask/src/nested/stale.rs.
const SEED: u64 = 0x57a1e;
/// Without the pool.
const ORDINARY: usize = 16 * HUGE_SIZE;

#[test]
fn secret_memory_has_nothing_of_what_was_there_before() -> Result<()> {
    on_clean_host(|| {
        let left = physical::scan(&Witness::load()?, Seed::new(SEED))?.frames.len();
        figure("frames that have what they had before", left, "");
        ensure!(left > 1000, "INVALID: the machine came with empty memory");

        let pool = usize::try_from(meminfo_bytes("SecretPoolTotal:")?.unwrap_or(0))?;
        ensure!(pool >= 32 * HUGE_SIZE, "INVALID: a pool of {pool} bytes");
        memlock::make_room((pool + ORDINARY) as u64)?;
        for (flags, length) in [(POOL, pool), (HUGE, ORDINARY)] {
            let memory = Area::of_file(&secret::file(flags, length)?, length)?;
            for offset in (0..length).step_by(PAGE_SIZE) {
                let mut page = [1; PAGE_SIZE];
                memory.get(offset, &mut page);
                ensure!(page == [0; PAGE_SIZE], "Flags {flags}: at {offset:#x} is what was there before");
            }
        }
        Ok(())
    })
}
