// SPDX-License-Identifier: Apache-2.0
//! Runs inside the guest: plants canary pages, says where they are, and keeps them there.

use std::fs::File;
use std::io::Write;
use std::num::NonZeroUsize;
use std::os::unix::fs::FileExt;
use std::ptr::NonNull;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use lexopt::prelude::{Long, Short, ValueExt};
use nix::sys::mman::{MapFlags, ProtFlags, mlock, mmap_anonymous};
use nix::unistd::{ForkResult, pause};
use secretvmm_canary::{PAGE_SIZE, Seed};

const USAGE: &str = "Plants canary pages in this machine's memory and keeps them there.

Usage: canary [--seed HEX] [--pages N] [--hold]

  --seed HEX   derive the pages from this 64-bit seed (default: random)
  --pages N    how many pages of 4 KiB (default: 256)
  --hold       return once the pages are planted, and keep them in a background process
";

struct Options {
    seed: Seed,
    pages: usize,
    hold: bool,
}

fn main() -> Result<()> {
    let options = parse_arguments()?;
    if options.hold { plant_in_background(&options) } else { plant(&options) }
}

fn parse_arguments() -> Result<Options> {
    let mut options = Options { seed: random_seed()?, pages: 256, hold: false };
    let mut arguments = lexopt::Parser::from_env();
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("seed") => options.seed = arguments.value()?.parse()?,
            Long("pages") => options.pages = arguments.value()?.parse()?,
            Long("hold") => options.hold = true,
            Short('h') | Long("help") => {
                print!("{USAGE}");
                std::process::exit(0);
            }
            _ => return Err(argument.unexpected().into()),
        }
    }
    if options.pages == 0 {
        bail!("--pages must be at least 1");
    }
    Ok(options)
}

fn random_seed() -> Result<Seed> {
    let mut bytes = [0; 8];
    File::open("/dev/urandom").and_then(|file| file.read_exact_at(&mut bytes, 0)).context("Cannot draw a seed")?;
    Ok(Seed::new(u64::from_le_bytes(bytes)))
}

/// Plants in a child, so that the shell gets its prompt back when the line is out and not before.
fn plant_in_background(options: &Options) -> Result<()> {
    let (planted, ready) = nix::unistd::pipe()?;
    #[allow(unsafe_code)]
    // SAFETY: this process has one thread, so the child may do whatever the parent may.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { .. } => {
            drop(ready);
            match nix::unistd::read(&planted, &mut [0])? {
                1 => Ok(()),
                _ => bail!("The background process could not plant the canary"),
            }
        }
        ForkResult::Child => {
            drop(planted);
            let pages = plant(options);
            if pages.is_ok() {
                nix::unistd::write(&ready, b"!")?;
                loop {
                    pause();
                }
            }
            pages
        }
    }
}

/// Fills locked pages and prints seed, count and guest-physical addresses. They live as long as the process.
fn plant(options: &Options) -> Result<()> {
    let length = options.pages.checked_mul(PAGE_SIZE).and_then(NonZeroUsize::new).context("Too many pages")?;
    let region = map_locked(length)?;
    #[allow(unsafe_code)]
    // SAFETY: the mapping is ours alone, readable and writable, `length` bytes long, and never unmapped.
    let memory = unsafe { std::slice::from_raw_parts_mut(region.as_ptr(), length.get()) };
    let (pages, _) = memory.as_chunks_mut::<PAGE_SIZE>();
    for (index, page) in (0..).zip(pages) {
        options.seed.fill(index, page);
    }
    let mut frames = frame_numbers(region, options.pages)?;
    frames.sort_unstable();
    frames.dedup();
    let (Some(first), Some(last)) = (frames.first(), frames.last()) else { bail!("No page has a frame") };
    let mut out = std::io::stdout();
    writeln!(
        out,
        "canary: seed={} pages={} frames={} first_gpa={:#x} last_gpa={:#x}",
        options.seed,
        options.pages,
        frames.len(),
        first * PAGE_SIZE as u64,
        last * PAGE_SIZE as u64,
    )?;
    Ok(out.flush()?)
}

fn map_locked(length: NonZeroUsize) -> Result<NonNull<u8>> {
    #[allow(unsafe_code)]
    // SAFETY: a new anonymous mapping at an address the kernel chooses touches no memory of ours.
    let region =
        unsafe { mmap_anonymous(None, length, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_PRIVATE) }
            .with_context(|| format!("Cannot map {length} bytes"))?;
    #[allow(unsafe_code)]
    // SAFETY: the range is the mapping just made.
    unsafe { mlock(region, length.get()) }.context("Cannot lock the pages; run as root")?;
    Ok(region.cast())
}

/// Frame numbers of the pages from `region` on. A page that the kernel is just moving has none for that moment.
fn frame_numbers(region: NonNull<u8>, pages: usize) -> Result<Vec<u64>> {
    const TRIES: u32 = 100;
    let mut frames = Vec::new();
    for _ in 0..TRIES {
        frames = frame_numbers_now(region, pages)?;
        if frames.len() == pages {
            return Ok(frames);
        }
        sleep(Duration::from_millis(20));
    }
    bail!("Only {} of {pages} pages have a frame number; run as root", frames.len())
}

/// Those that there are at this moment (Documentation/admin-guide/mm/pagemap.rst: bits 0–54 of an entry whose bit 63 is
/// set; zero for readers without CAP_SYS_ADMIN).
fn frame_numbers_now(region: NonNull<u8>, pages: usize) -> Result<Vec<u64>> {
    const PRESENT: u64 = 1 << 63;
    const FRAME: u64 = (1 << 55) - 1;
    let mut entries = vec![0; pages * 8];
    let offset = (region.as_ptr().addr() / PAGE_SIZE * 8) as u64;
    File::open("/proc/self/pagemap")
        .and_then(|file| file.read_exact_at(&mut entries, offset))
        .context("Cannot read /proc/self/pagemap")?;
    let (entries, _) = entries.as_chunks::<8>();
    let present = entries.iter().map(|entry| u64::from_le_bytes(*entry)).filter(|entry| entry & PRESENT != 0);
    Ok(present.map(|entry| entry & FRAME).filter(|&frame| frame != 0).collect())
}
