// SPDX-License-Identifier: Apache-2.0
//! The proof in words and figures.

use std::time::Duration;

use secretvmm_proof::examine::{Findings, Sample};
use secretvmm_proof::orders::Running;

use super::sum::Sum;
use crate::support::progress::duration;

/// What one look found.
pub(super) fn findings(findings: &Findings, running: &Running, (still, read): (Duration, Duration)) {
    let Findings { canaries, copies, stage2, guest_frames, reachable, hidden, roots, cpus, .. } = findings;
    println!("   canaries       {canaries} of {} found, {copies} copies elsewhere", running.canaries);
    println!("   second level   {} frames, {:.1} % in entries of 2M", stage2.1, percent(stage2.2, stage2.1));
    println!(
        "   host's tables  {} roots of {} levels, {} more for user mode; {} of {} CPUs on one of them",
        roots.0, findings.levels, roots.1, cpus.1, cpus.0
    );
    println!("   kernel halves  reach {reachable} of {guest_frames} guest frames");
    println!("   user halves    {}", mappers(findings, running));
    println!(
        "   direct map     {} of them mapped; not present: {} empty, {} with inverted frame bits, {} with plain ones",
        hidden.mapped, hidden.empty, hidden.inverted, hidden.exposed
    );
    println!(
        "   time           the host stood still for {:.1} s, its memory was read in {:.1} s",
        secs(still),
        secs(read)
    );
}

fn mappers(findings: &Findings, running: &Running) -> String {
    match findings.mappers.as_slice() {
        [] => "no process maps them".into(),
        [one] => {
            let vmm = running.mappings.iter().any(|&(start, end)| start <= one.range.0 && one.range.1 <= end);
            let who =
                if vmm { format!("the VMM, process {}", running.pid) } else { "a process that is not the VMM".into() };
            format!("1 process maps {} of them: {who}", one.frames)
        }
        many => format!("{} processes map them", many.len()),
    }
}

/// What a kernel half gave away.
pub(super) fn read(findings: &Findings) {
    let Some(Sample { address, pfn, index, bytes }) = &findings.sample else { return };
    let shown: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    println!(
        "   READ: canary {index} of the guest, in frame {pfn:#x}, at the kernel's address {address:#x}: {shown}..."
    );
}

/// The closing lines.
pub(super) fn sum(sum: &Sum, time: Duration) {
    println!();
    println!(
        "Outside: {} looks at the guest, {} at the control; kernel halves reach {} of {} guest frames",
        sum.looks.0, sum.looks.1, sum.reachable, sum.frames
    );
    match sum.objections.as_slice() {
        [] => println!(
            "PROVED: no page table of the host's kernel reaches the guest; the control's memory was all found."
        ),
        objections => {
            println!("NOT PROVED:");
            objections.iter().for_each(|objection| println!("  {objection}"));
        }
    }
    println!("Time: {}", duration(time));
}

fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}

fn secs(time: Duration) -> f64 {
    time.as_secs_f64()
}
