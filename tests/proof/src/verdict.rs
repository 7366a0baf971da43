// SPDX-License-Identifier: Apache-2.0
//! What the findings of the witness outside must be.

use crate::examine::Findings;
use crate::orders::Running;

/// Why `findings` are no proof that the guest is hidden; empty if they are one.
///
/// The first lines are about the witness itself: what it has not found cannot be called unreachable.
pub fn objections(findings: &Findings, running: &Running) -> Vec<String> {
    let mut objections = blind(findings, running);
    let Findings { reachable, guest_frames, copies, hidden, .. } = findings;
    if *reachable > 0 {
        let places: Vec<_> =
            findings.places.iter().map(|p| format!("frame {:#x} at {:#x}", p.pfn, p.address)).collect();
        objections
            .push(format!("the kernel reaches {reachable} of {guest_frames} guest frames: {}", places.join(", ")));
    }
    if *copies > 0 {
        objections.push(format!("{copies} frames outside guest RAM hold canaries"));
    }
    if hidden.exposed > 0 {
        objections.push(format!("{} entries that are not present still name the guest's frames", hidden.exposed));
    }
    match findings.mappers.as_slice() {
        [vmm] if running.mappings.iter().any(|&(start, end)| start <= vmm.range.0 && vmm.range.1 <= end) => {}
        [] => objections.push("no process maps the guest: its VMM was not found".into()),
        [_] => objections.push("the process that maps the guest is not its VMM".into()),
        many => objections.push(format!("{} processes map the guest", many.len())),
    }
    objections
}

/// Why the witness cannot be believed.
pub fn blind(findings: &Findings, running: &Running) -> Vec<String> {
    let mut reasons = Vec::new();
    if findings.canaries != running.canaries {
        reasons.push(format!("{} of {} canaries were found", findings.canaries, running.canaries));
    }
    if findings.stage2.0 == 0 {
        reasons.push("the guest's second-level page tables were not found".into());
    }
    if findings.guest_frames > running.secret_pages && running.secret_pages > 0 {
        reasons.push(format!(
            "{} guest frames were found, but the kernel counts {}",
            findings.guest_frames, running.secret_pages
        ));
    }
    reasons
}

/// Why a guest on ordinary memory is no control: all of it must be reachable.
pub fn control_objections(findings: &Findings, running: &Running) -> Vec<String> {
    let mut objections = blind(findings, running);
    if findings.reachable != findings.guest_frames {
        objections.push(format!(
            "the kernel reaches {} of {} frames of a guest on ordinary memory",
            findings.reachable, findings.guest_frames
        ));
    }
    objections
}

/// Why a frame that was mapped into the kernel on purpose was not seen as that: it, and nothing else, must be reached.
pub fn leak_objections(findings: &Findings, pfn: u64) -> Vec<String> {
    // More than one address may show it: the tables for CPUs that start share the direct map's.
    let seen = !findings.places.is_empty() && findings.places.iter().all(|place| place.pfn == pfn);
    match (seen, findings.reachable) {
        (true, 1) => Vec::new(),
        _ => vec![format!(
            "frame {pfn:#x} was leaked, and {} frames were found: {:x?}",
            findings.reachable, findings.places
        )],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::examine::{Hidden, Mapper, Place};

    fn running() -> Running {
        Running {
            pid: 7,
            seed: "1".into(),
            canaries: 4,
            mappings: vec![(0x7000_0000, 0x8000_0000)],
            secret_pages: 600,
            direct_mapped: 0,
        }
    }

    fn findings() -> Findings {
        Findings {
            memory: 4096,
            levels: 4,
            roots: (3, 0),
            cpus: (1, 1),
            canaries: 4,
            copies: 0,
            stage2: (1, 516, 512),
            guest_frames: 516,
            reachable: 0,
            places: Vec::new(),
            sample: None,
            mappers: vec![Mapper { root: 9, frames: 516, range: (0x7000_0000, 0x7020_4000) }],
            hidden: Hidden { empty: 4, inverted: 512, ..Hidden::default() },
            entries: [0, 8, 0],
            map: Vec::new(),
        }
    }

    #[test]
    fn objections_hidden_guest_has_none() {
        assert_eq!(objections(&findings(), &running()), [""; 0]);
    }

    #[test]
    fn objections_each_single_fault_is_one() {
        let place = Place { address: 0xffff_8880_0000_5000, pfn: 5, pages: 1 };
        let mapper = |start| Mapper { root: 10, frames: 1, range: (start, start + 4096) };
        let faults: [fn(&mut Findings); 9] = [
            |f| f.reachable = 1,
            |f| f.copies = 1,
            |f| f.hidden.exposed = 1,
            |f| f.canaries = 3,
            |f| f.stage2 = (0, 0, 0),
            |f| f.guest_frames = 601,
            |f| f.mappers.clear(),
            |f| f.mappers[0].range = (0x1000, 0x2000),
            |f| f.mappers[0].range.1 = 0x8000_1000,
        ];
        for (number, fault) in faults.iter().enumerate() {
            let mut findings = findings();
            fault(&mut findings);
            assert_eq!(objections(&findings, &running()).len(), 1, "fault {number}");
        }
        let two = Findings { mappers: vec![mapper(0x7000_0000), mapper(0x1000)], ..findings() };
        assert_eq!(objections(&two, &running()).len(), 1);
        let reached = Findings { reachable: 1, places: vec![place], ..findings() };
        assert!(objections(&reached, &running())[0].contains("0xffff888000005000"));
    }

    #[test]
    fn leak_objections_the_one_frame_and_no_other() {
        let place = |pfn| Place { address: 0xffff_c900_0000_0000, pfn, pages: 1 };
        let found = |places: Vec<Place>| Findings { reachable: places.len() as u64, places, ..findings() };
        assert_eq!(leak_objections(&found(vec![place(5)]), 5), [""; 0]);
        for places in [vec![], vec![place(6)], vec![place(5), place(6)]] {
            assert_eq!(leak_objections(&found(places), 5).len(), 1);
        }
    }

    #[test]
    fn control_objections_one_frame_out_of_reach_is_one() {
        let plain = Running { secret_pages: 0, ..running() };
        assert_eq!(control_objections(&Findings { reachable: 516, ..findings() }, &plain), [""; 0]);
        assert_eq!(control_objections(&Findings { reachable: 515, ..findings() }, &plain).len(), 1);
    }
}
