// SPDX-License-Identifier: Apache-2.0
//! The demo's evidence: a guest on hidden memory beside the same guest on ordinary memory, both read from outside.

use anyhow::{Result, ensure};

use crate::artifacts::{GUEST_BZIMAGE, artifact};
use crate::guest::{Guest, GuestBuilder};
use crate::host::fdinfo;
use crate::host::kernel_log::KernelLog;
use crate::probes::{PROBES, Tally, Target, Verdict};

/// Boots both guests, prints what every probe read, and judges.
///
/// `mem` is guest RAM as `--mem` takes it.
///
/// # Errors
/// The hidden guest was read, the kernel maps one of its pages, the host's log has a complaint, or a control found
/// less than was planted.
pub fn demo(mem: &str) -> Result<()> {
    let mut log = KernelLog::from_now()?;
    let hidden = probe_guest("Hidden guest", mem, Backing::Secret)?;
    let ordinary = probe_guest("Ordinary guest, the control", mem, Backing::Shared)?;
    print_table(&hidden, &ordinary);
    log.assert_clean()?;
    println!("The host's kernel log has no complaint.");
    judge(&hidden, &ordinary)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Backing {
    Secret,
    Shared,
}

/// What every probe brought back from one guest, in the order of [`PROBES`].
struct Findings {
    planted: u64,
    direct_mapped: u64,
    tallies: Vec<Tally>,
}

fn probe_guest(title: &str, mem: &str, backing: Backing) -> Result<Findings> {
    let kernel = artifact(GUEST_BZIMAGE)?;
    let mut builder = GuestBuilder::new(&kernel).memory(mem);
    if backing == Backing::Shared {
        builder = builder.shared_memory();
    }
    let option = if backing == Backing::Shared { " --backing shared" } else { "" };
    println!("\n== {title}: secretvmm --kernel bzImage --mem {mem}{option}");
    let mut guest = builder.start()?;
    let (canary, line) = guest.wait_for_canary()?;
    guest.wait_for_shell()?;
    println!("   guest at its shell prompt; inside it: {line}");

    let before = report_fdinfo(&guest, backing)?;
    let target = Target::of_guest(&guest, canary)?;
    println!("   reading {} resident pages as root from outside, {} ways ...", target.pages.len(), PROBES.len());
    let tallies = PROBES.iter().map(|probe| (probe.run)(&target)).collect::<Result<_>>()?;
    let after = report_fdinfo(&guest, backing)?;

    ensure!(guest.shell("echo alive")?.ends_with("alive"), "The guest did not survive the probes");
    Ok(Findings { planted: canary.pages, direct_mapped: before.max(after), tallies })
}

/// Prints what the kernel says of the guest's pages; returns how many it maps.
fn report_fdinfo(guest: &Guest, backing: Backing) -> Result<u64> {
    if backing == Backing::Shared {
        return Ok(0);
    }
    let info = fdinfo::of_process(guest.pid())?;
    println!("   /proc/{}/fdinfo: secretmem_pages: {}", guest.pid(), info.pages);
    println!("   /proc/{}/fdinfo: secretmem_direct_mapped: {}", guest.pid(), info.direct_mapped);
    println!("   /proc/{}/fdinfo: secretmem_aliases: {} (pages that KVM maps elsewhere)", guest.pid(), info.aliases);
    ensure!(info.pages > 0, "The kernel knows of no page in the guest's secret memory");
    Ok(info.direct_mapped)
}

fn print_table(hidden: &Findings, ordinary: &Findings) {
    println!("\n== What the host could read ({} canary pages planted in each guest)", hidden.planted);
    for ((probe, secret), control) in PROBES.iter().zip(&hidden.tallies).zip(&ordinary.tallies) {
        println!("   {:<18} hidden guest:   {secret}", probe.name);
        println!("   {:<18} ordinary guest: {control}", "");
    }
    println!();
}

fn judge(hidden: &Findings, ordinary: &Findings) -> Result<()> {
    for ((probe, secret), control) in PROBES.iter().zip(&hidden.tallies).zip(&ordinary.tallies) {
        ensure!(
            control.canaries() == ordinary.planted,
            "INVALID: {} found {} of the {} canaries in ordinary memory, so its silence on hidden memory proves nothing",
            probe.name,
            control.canaries(),
            ordinary.planted,
        );
        ensure!(secret.verdict() != Verdict::Hit, "{} READ THE HIDDEN GUEST: {secret}", probe.name);
    }
    ensure!(hidden.direct_mapped == 0, "The kernel still maps {} pages of the hidden guest", hidden.direct_mapped);
    println!(
        "PROVED here: every probe read the ordinary guest's canaries, none read the hidden guest's,\n\
         and the host kernel's direct map holds 0 of its pages."
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLANTED: u64 = 256;

    fn findings(canaries: u64, direct_mapped: u64) -> Findings {
        let tallies = PROBES.iter().map(|_| Tally::of_canaries(canaries)).collect();
        Findings { planted: PLANTED, direct_mapped, tallies }
    }

    #[test]
    fn judge_hidden_silent_and_control_complete_passes() {
        assert!(judge(&findings(0, 0), &findings(PLANTED, 0)).is_ok());
    }

    #[test]
    fn judge_control_that_misses_one_canary_fails() {
        assert!(judge(&findings(0, 0), &findings(PLANTED - 1, 0)).is_err());
    }

    #[test]
    fn judge_one_canary_of_the_hidden_guest_fails() {
        assert!(judge(&findings(1, 0), &findings(PLANTED, 0)).is_err());
    }

    #[test]
    fn judge_one_page_in_the_direct_map_fails() {
        assert!(judge(&findings(0, 1), &findings(PLANTED, 0)).is_err());
    }
}
