// SPDX-License-Identifier: Apache-2.0
//! Trace events tell of every folio that comes and goes, and of every page that the kernel maps for itself.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};
use secretvmm_tests::host::process::{mappings, resident_pages};
use secretvmm_tests::host::trace::{Event, Trace};

use crate::support::{assert_hidden, on_clean_host, own_guest, power_off};

const GUEST_PAGES: u64 = 128 * 256;

#[test]
fn events_agree_with_fdinfo_and_with_the_frames_of_the_guest() -> Result<()> {
    on_clean_host(|| {
        let trace = Trace::start()?;
        let mut guest = own_guest()?.memory("128M").arguments(["--backing", "secret,populate=all"]).start()?;
        guest.wait_for_shell()?;
        let info = assert_hidden(&guest)?;
        let events = trace.events()?;

        let folios = folios(&events)?;
        let pages = folios.values().map(|order| 1u64 << order).sum::<u64>();
        let huge = folios.values().filter(|order| **order == 9).count() as u64 * 512;
        ensure!(info.pages == GUEST_PAGES && pages == info.pages, "{pages} pages came, the file has {info:?}");
        ensure!(huge == info.huge, "{huge} pages came in folios of 2 MiB, the file has {info:?}");

        let frames = frames(&folios);
        let mapped = frames_of_guest(guest.pid())?;
        ensure!(!mapped.is_empty(), "INVALID: no frame of the guest's is to be seen in its page map");
        ensure!(mapped.is_subset(&frames), "The page map has frames that no event told of");

        // The page of kvm-clock, mapped each time the clock is written and not in between.
        let written = ever_mapped(&events);
        ensure!(!written.is_empty(), "INVALID: the guest has no kvm-clock page");
        ensure!(written.is_subset(&frames), "An alias is none of the file's frames: {written:x?}");
        let left = aliases(&events)?;
        ensure!(left.is_empty() && info.aliases == 0, "{left:x?} are mapped, the file has {info:?}");

        power_off(&mut guest)?;
        drop(guest);
        let events = trace.events()?;
        ensure!(freed(&events) == folios, "What went is not what came");
        ensure!(aliases(&events)?.is_empty(), "Aliases are left");
        Ok(())
    })
}

/// First frame and order of every folio that came, all of one file and each at a place of its own.
fn folios(events: &[Event]) -> Result<BTreeMap<u64, u32>> {
    let (mut folios, mut files, mut places) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
    for event in events {
        if let &Event::Populate { ino, index, pfn, order } = event {
            ensure!(pfn % (1 << order) == 0 && index % (1 << order) == 0, "Not aligned: {event:?}");
            ensure!(folios.insert(pfn, order).is_none(), "A frame came twice: {event:?}");
            ensure!((index..index + (1 << order)).all(|index| places.insert(index)), "A place was taken: {event:?}");
            files.insert(ino);
        }
    }
    ensure!(files.len() == 1, "Not of one file: {files:?}");
    Ok(folios)
}

fn frames(folios: &BTreeMap<u64, u32>) -> BTreeSet<u64> {
    folios.iter().flat_map(|(&pfn, &order)| pfn..pfn + (1 << order)).collect()
}

/// First frame and order of every folio that went and was not lost.
fn freed(events: &[Event]) -> BTreeMap<u64, u32> {
    let freed = events.iter().filter_map(|event| match *event {
        Event::Free { pfn, order, lost: false } => Some((pfn, order)),
        _ => None,
    });
    freed.collect()
}

/// Frames that had an alias.
fn ever_mapped(events: &[Event]) -> BTreeSet<u64> {
    let frames = events.iter().filter_map(|event| match *event {
        Event::MapAlias { pfn, .. } => Some(pfn),
        _ => None,
    });
    frames.collect()
}

/// Frames of the aliases that are mapped when the events end, one for each alias.
fn aliases(events: &[Event]) -> Result<Vec<u64>> {
    let mut mapped = Vec::new();
    for event in events {
        match *event {
            Event::MapAlias { pfn, .. } => mapped.push(pfn),
            Event::UnmapAlias { pfn, .. } => {
                let at = mapped.iter().position(|&alias| alias == pfn);
                ensure!(at.map(|at| mapped.swap_remove(at)).is_some(), "Unmapped, but never mapped: {event:?}");
            }
            _ => {}
        }
    }
    Ok(mapped)
}

/// Frames that the VMM has mapped of its secret memory.
fn frames_of_guest(pid: u32) -> Result<BTreeSet<u64>> {
    let mut ranges = mappings(pid)?;
    ranges.retain(|mapping| mapping.name.starts_with("/secretmem"));
    let inside = |hva| ranges.iter().any(|range| (range.start..range.end).contains(&hva));
    Ok(resident_pages(pid)?.iter().filter(|page| inside(page.hva)).map(|page| page.pfn).collect())
}
