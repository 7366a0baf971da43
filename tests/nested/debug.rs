//! The kernel with all its checks, which also runs the lab's tests: what its leak detector finds when guests are gone.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use secretvmm_tests::guest::STEP_LIMIT;

use crate::support::{assert_hidden, on_clean_host, own_guest, power_off};

/// Documentation/dev-tools/kmemleak.rst.
const KMEMLEAK: &str = "/sys/kernel/debug/kmemleak";
/// kmemleak reports nothing that is younger than 5 s.
const AGE: Duration = Duration::from_secs(6);

#[test]
fn guests_leave_no_kernel_memory_behind() -> Result<()> {
    on_clean_host(|| {
        order("scan")?;
        order("clear")?;
        let mut guest = own_guest()?.memory("128M").start()?;
        guest.wait_for_shell()?;
        assert_hidden(&guest)?;
        power_off(&mut guest)?;
        let mut guest = own_guest()?.memory("128M").start()?;
        guest.wait_for_shell()?;
        guest.signal(Signal::SIGKILL)?;
        guest.wait(STEP_LIMIT)?;

        sleep(AGE);
        // The first scan notes what has changed meanwhile, the second reports.
        order("scan")?;
        order("scan")?;
        let leaks = fs::read_to_string(KMEMLEAK).context("Cannot read kmemleak's report")?;
        ensure!(leaks.is_empty(), "The host's kernel lost memory:\n{leaks}");
        Ok(())
    })
}

fn order(word: &str) -> Result<()> {
    fs::write(KMEMLEAK, word).with_context(|| format!("kmemleak does not take {word}"))
}
