//! `/proc/kcore`: the kernel's own view of physical memory, through the direct map and the kernel image.
//!
//! A hole in the direct map reads as zeros *with success*, so this probe first reads a page of its own, which it must
//! recognise, or it is no witness at all.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::ptr::from_ref;

use anyhow::{Context, Result, ensure};
use elf::ElfStream;
use elf::abi::PT_LOAD;
use elf::endian::LittleEndian;
use nix::errno::Errno;
use secretvmm_canary::{PAGE_SIZE, Seed};

use super::{Tally, Target};
use crate::host::process::frame_at;

const PATH: &str = "/proc/kcore";

/// A stretch of physical memory as one of kcore's segments shows it.
struct Segment {
    physical: u64,
    length: u64,
    offset: u64,
}

pub(super) fn run(target: &Target) -> Result<Tally> {
    let kcore = File::open(PATH).with_context(|| format!("Cannot open {PATH}; the lab kernel has it"))?;
    let segments = physical_segments(&kcore)?;
    ensure!(finds_own_page(&kcore, &segments)?, "{PATH} does not even show this process's own page");
    let mut tally = Tally::default();
    for at in &target.pages {
        read_frame(&kcore, &segments, at.pfn, target.canary.seed, &mut tally);
    }
    Ok(tally)
}

/// The segments with a physical address (fs/proc/kcore.c gives all others the address of all ones): the direct map, and
/// the kernel image, which maps some of the same frames a second time.
fn physical_segments(kcore: &File) -> Result<Vec<Segment>> {
    let headers = ElfStream::<LittleEndian, _>::open_stream(kcore.try_clone()?)
        .with_context(|| format!("Cannot understand {PATH}"))?;
    let loads = headers.segments().iter().filter(|header| header.p_type == PT_LOAD && header.p_paddr != u64::MAX);
    Ok(loads.map(|h| Segment { physical: h.p_paddr, length: h.p_memsz, offset: h.p_offset }).collect())
}

fn read_frame(kcore: &File, segments: &[Segment], pfn: u64, seed: Seed, tally: &mut Tally) {
    let physical = pfn * PAGE_SIZE as u64;
    let mut page = [0; PAGE_SIZE];
    for segment in segments {
        let Some(inside) = physical.checked_sub(segment.physical).filter(|&inside| inside < segment.length) else {
            continue;
        };
        match kcore.read_at(&mut page, segment.offset + inside) {
            Ok(length) => tally.page(seed, &page[..length]),
            Err(error) => tally.refusal(error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw)),
        }
    }
}

/// Plants a canary in this process's own memory and looks for it the same way.
fn finds_own_page(kcore: &File, segments: &[Segment]) -> Result<bool> {
    let seed = Seed::new(u64::from(std::process::id()));
    let own = Box::new(OwnPage(seed.page(0)));
    let address = from_ref(&own.0).addr() as u64;
    let pfn = frame_at(std::process::id(), address)?.context("Our own page has no frame; run as root")?;
    let mut tally = Tally::default();
    read_frame(kcore, segments, pfn, seed, &mut tally);
    Ok(tally.canaries() == 1)
}

/// A page that lies in one frame.
#[repr(align(4096))]
struct OwnPage([u8; PAGE_SIZE]);
