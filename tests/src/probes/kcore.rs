// SPDX-License-Identifier: Apache-2.0
//! `/proc/kcore`: the kernel's own view of physical memory, through the direct map and the kernel image.
//!
//! A hole in the direct map reads as zeros *with success*, so this probe first reads a page of its own, which it must
//! recognise, or it is no witness at all.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::ptr::from_ref;

use anyhow::{Context, Result, ensure};
use elf::ElfStream;
use elf::abi::PT_LOAD;
use elf::endian::LittleEndian;
use nix::errno::Errno;
use secretvmm_canary::{PAGE_SIZE, Seed};

use super::{Tally, Target, errno_of};
use crate::host::process::frame_at;

const PATH: &str = "/proc/kcore";
/// Where x86-64 maps the kernel's image (Documentation/arch/x86/x86_64/mm.rst); the direct map lies below.
const IMAGE_MAP: u64 = 0xffff_ffff_8000_0000;

/// A stretch of physical memory as one of kcore's segments shows it.
struct Segment {
    address: u64,
    physical: u64,
    length: u64,
    offset: u64,
}

/// Reads every page of the target by its frame.
///
/// # Errors
/// There is no `/proc/kcore`, or it does not even show a page of our own.
pub fn run(target: &Target) -> Result<Tally> {
    let kcore = File::open(PATH).with_context(|| format!("Cannot open {PATH}; the lab kernel has it"))?;
    let segments = physical_segments(&kcore)?;
    ensure!(finds_own_page(&kcore, &segments)?, "{PATH} does not even show this process's own page");
    let mut tally = Tally::default();
    for at in &target.pages {
        read_frame(&kcore, &segments, at.pfn, target.canary.seed, &mut tally);
    }
    Ok(tally)
}

/// The frames that the kernel's image was loaded to. It has given some of them back since; kcore shows them all, at the
/// image's address and by the direct map.
///
/// # Errors
/// As [`run`].
pub fn image_frames() -> Result<Range<u64>> {
    let kcore = File::open(PATH).with_context(|| format!("Cannot open {PATH}; the lab kernel has it"))?;
    let segments = physical_segments(&kcore)?;
    let image = segments.iter().find(|segment| segment.address >= IMAGE_MAP).context("kcore shows no kernel image")?;
    let page = PAGE_SIZE as u64;
    Ok(image.physical / page..(image.physical + image.length).div_ceil(page))
}

/// How many of `frames` kcore shows at the image's address with just the same contents as by the direct map, which are
/// not all zeros: whether it does read the image.
///
/// # Errors
/// As [`run`].
pub fn shown_twice(frames: Range<u64>) -> Result<u64> {
    let kcore = File::open(PATH).with_context(|| format!("Cannot open {PATH}; the lab kernel has it"))?;
    let segments = physical_segments(&kcore)?;
    let mut count = 0;
    for pfn in frames {
        let views = segments.iter().filter_map(|segment| segment.read(&kcore, pfn)).collect::<Vec<_>>();
        let pages = views.iter().filter_map(|view| view.as_ref().ok()).collect::<Vec<_>>();
        count += u64::from(pages.len() == 2 && pages[0] == pages[1] && pages[0].iter().any(|&byte| byte != 0));
    }
    Ok(count)
}

/// Where the direct map has a frame, or would have it.
///
/// # Errors
/// As [`run`], or it is no frame of memory.
pub fn direct_map_address(pfn: u64) -> Result<u64> {
    let kcore = File::open(PATH).with_context(|| format!("Cannot open {PATH}; the lab kernel has it"))?;
    let physical = pfn * PAGE_SIZE as u64;
    let segments = physical_segments(&kcore)?;
    let direct = segments.iter().filter(|segment| segment.address < IMAGE_MAP);
    let inside = |segment: &Segment| Some(segment.address + physical.checked_sub(segment.physical)?);
    let holds = |segment: &&Segment| (segment.physical..segment.physical + segment.length).contains(&physical);
    direct.filter(holds).find_map(inside).with_context(|| format!("kcore shows no frame {pfn:#x}"))
}

/// What lies at an address of the direct map.
///
/// # Errors
/// As [`run`], or there is no such address.
pub fn read_direct_map(address: u64, bytes: &mut [u8]) -> Result<()> {
    let kcore = File::open(PATH).with_context(|| format!("Cannot open {PATH}; the lab kernel has it"))?;
    let segments = physical_segments(&kcore)?;
    let holds = |segment: &&Segment| (segment.address..segment.address + segment.length).contains(&address);
    let segment = segments.iter().find(holds).with_context(|| format!("kcore shows nothing at {address:#x}"))?;
    Ok(kcore.read_exact_at(bytes, segment.offset + (address - segment.address))?)
}

/// The segments with a physical address (fs/proc/kcore.c gives all others the address of all ones): the direct map, and
/// the kernel image, which maps some of the same frames a second time.
fn physical_segments(kcore: &File) -> Result<Vec<Segment>> {
    let headers = ElfStream::<LittleEndian, _>::open_stream(kcore.try_clone()?)
        .with_context(|| format!("Cannot understand {PATH}"))?;
    let loads = headers.segments().iter().filter(|header| header.p_type == PT_LOAD && header.p_paddr != u64::MAX);
    let segment = |h: &elf::segment::ProgramHeader| Segment {
        address: h.p_vaddr,
        physical: h.p_paddr,
        length: h.p_memsz,
        offset: h.p_offset,
    };
    Ok(loads.map(segment).collect())
}

impl Segment {
    /// Reads a frame through this segment; None if it does not lie there.
    fn read(&self, kcore: &File, pfn: u64) -> Option<Result<[u8; PAGE_SIZE], Errno>> {
        let physical = pfn * PAGE_SIZE as u64;
        let inside = physical.checked_sub(self.physical).filter(|&inside| inside < self.length)?;
        let mut page = [0; PAGE_SIZE];
        let read = kcore.read_exact_at(&mut page, self.offset + inside);
        Some(read.map(|()| page).map_err(|error| errno_of(&error)))
    }
}

fn read_frame(kcore: &File, segments: &[Segment], pfn: u64, seed: Seed, tally: &mut Tally) {
    for read in segments.iter().filter_map(|segment| segment.read(kcore, pfn)) {
        match read {
            Ok(page) => tally.page(seed, &page),
            Err(errno) => tally.refusal(errno),
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
