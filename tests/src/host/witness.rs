// SPDX-License-Identifier: Apache-2.0
//! The test module in the host's kernel (tests/witness): what the kernel's page tables reach of a set of frames.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module};
use secretvmm_canary::PAGE_SIZE;

use crate::artifacts::artifact;

const FOLDER: &str = "/sys/kernel/debug/secretvmm_witness";

/// The loaded module.
pub struct Witness(());

/// What a walk through the kernel's page tables found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Walk {
    /// Frames of the set.
    pub frames: u64,
    /// Of these, reached by one entry or more.
    pub reached: u64,
    /// Entries that reach any.
    pub leaves: u64,
    /// Tables that were gone before they were read.
    pub unreadable: u64,
    /// The first of those entries.
    pub told: Vec<Leaf>,
}

/// A present entry that reaches frames of the set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// The kernel address that it maps.
    pub address: u64,
    /// `4K`, `2M` or `1G`.
    pub level: String,
    /// `direct`, `image`, `vmalloc`, `modules` or `other`.
    pub area: String,
    /// How many frames of the set it reaches.
    pub frames: u64,
}

/// What one CPU read of the set through the direct map, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Touched {
    /// The CPU.
    pub cpu: u32,
    /// Bytes that it could read.
    pub readable: u64,
    /// Bytes that were a fault.
    pub refused: u64,
}

/// Pages that came back into the direct map while somebody watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restored {
    /// All of them.
    pub pages: u64,
    /// Those whose first word was not zero at that moment.
    pub filled: u64,
    /// Calls that could not be looked at.
    pub missed: u64,
}

/// A watch over pages that come back into the direct map, until it is dropped.
pub struct Watch<'a>(#[allow(dead_code)] &'a Witness);

/// A mapping of a frame that the kernel must never make, until it is dropped.
pub struct Wound<'a>(#[allow(dead_code)] &'a Witness);

/// A second mapping of a frame, made by the module, until it is dropped.
pub struct Window<'a>(#[allow(dead_code)] &'a Witness);

impl Witness {
    /// Loads the module unless it is there.
    ///
    /// # Errors
    /// It was not built for this kernel, or the kernel takes no modules.
    pub fn load() -> Result<Self> {
        let host = std::env::var("SECRETVMM_HOST_CONFIG").context("Not in a nested host")?;
        let path: PathBuf = artifact(&format!("host-{host}/secretvmm_witness.ko"))?;
        let module = File::open(&path).with_context(|| format!("Cannot open {}", path.display()))?;
        match finit_module(&module, c"", ModuleInitFlags::empty()) {
            Ok(()) | Err(Errno::EEXIST) => Ok(Witness(())),
            Err(errno) => Err(errno).context("The kernel does not take the witness module"),
        }
    }

    /// Walks the kernel's page tables for entries that reach any of these frames.
    ///
    /// # Errors
    /// No frame is given, or the module has no memory.
    pub fn walk(&self, pfns: &[u64]) -> Result<Walk> {
        self.ask(pfns)?;
        let text = fs::read_to_string(format!("{FOLDER}/walk")).context("Cannot walk")?;
        let walk = parse_walk(&text)?;
        ensure!(walk.frames == pfns.len() as u64, "Asked about {} frames, answered of {}", pfns.len(), walk.frames);
        Ok(walk)
    }

    /// Reads each frame through the direct map, on each CPU.
    ///
    /// # Errors
    /// As [`Witness::walk`].
    pub fn touch(&self, pfns: &[u64]) -> Result<Vec<Touched>> {
        self.ask(pfns)?;
        let text = fs::read_to_string(format!("{FOLDER}/touch")).context("Cannot touch")?;
        text.lines().map(parse_touched).collect()
    }

    /// Maps a frame once more.
    ///
    /// # Errors
    /// There is no such frame.
    pub fn hold(&self, pfn: u64) -> Result<Window<'_>> {
        fs::write(format!("{FOLDER}/window"), pfn.to_string()).with_context(|| format!("Cannot map frame {pfn:#x}"))?;
        Ok(Window(self))
    }

    /// Puts a frame back into the direct map (`direct`), or at an address of the kernel's image (`image`).
    ///
    /// # Errors
    /// There is no such frame, or no place for it.
    pub fn wound(&self, kind: &str, pfn: u64) -> Result<Wound<'_>> {
        fs::write(format!("{FOLDER}/leak"), format!("{kind} {pfn}"))
            .with_context(|| format!("Cannot leak frame {pfn:#x} by {kind}"))?;
        Ok(Wound(self))
    }

    /// Looks into each page that comes back into the direct map, at that moment.
    ///
    /// # Errors
    /// The kernel has no probes.
    pub fn watch_restored(&self) -> Result<Watch<'_>> {
        fs::write(format!("{FOLDER}/restored"), "1").context("Pages that come back cannot be watched")?;
        Ok(Watch(self))
    }

    /// Physical memory as the direct map shows it: the offset is the physical address, EFAULT where there is a hole.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn physical(&self) -> Result<File> {
        File::open(format!("{FOLDER}/physical")).context("Cannot open the direct map")
    }

    /// The first word of each frame as the direct map shows it: the offset is 8 times the frame number, all ones stand
    /// for a hole. One read gives 512 of them at most.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn heads(&self) -> Result<File> {
        File::open(format!("{FOLDER}/heads")).context("Cannot open the first words of the direct map")
    }

    fn ask(&self, pfns: &[u64]) -> Result<()> {
        let bytes = pfns.iter().flat_map(|pfn| pfn.to_ne_bytes()).collect::<Vec<_>>();
        fs::write(format!("{FOLDER}/frames"), bytes).context("The module does not take the frames")
    }
}

impl Window<'_> {
    /// The frame's contents.
    ///
    /// # Errors
    /// The mapping cannot be read.
    pub fn page(&self) -> Result<[u8; PAGE_SIZE]> {
        let mut page = [0; PAGE_SIZE];
        File::open(format!("{FOLDER}/window"))?.read_exact_at(&mut page, 0).context("Cannot read the mapping")?;
        Ok(page)
    }
}

impl Watch<'_> {
    /// What came back so far.
    ///
    /// # Errors
    /// The module is gone.
    pub fn seen(&self) -> Result<Restored> {
        parse_restored(fs::read_to_string(format!("{FOLDER}/restored"))?.trim())
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        // One that goes on counts what nobody asks for.
        let _ = fs::write(format!("{FOLDER}/restored"), "0");
    }
}

impl Drop for Wound<'_> {
    fn drop(&mut self) {
        // One that stays is found by the next walk.
        let _ = fs::write(format!("{FOLDER}/leak"), "0");
    }
}

impl Drop for Window<'_> {
    fn drop(&mut self) {
        // A window that stays is found by the next walk.
        let _ = fs::write(format!("{FOLDER}/window"), "0");
    }
}

impl Walk {
    /// Entries in an area, as far as they were told.
    pub fn leaves_in(&self, area: &str) -> usize {
        self.told.iter().filter(|leaf| leaf.area == area).count()
    }
}

fn parse_walk(text: &str) -> Result<Walk> {
    let mut walk = Walk::default();
    for line in text.lines() {
        let words = line.split(' ').collect::<Vec<_>>();
        match words[..] {
            ["frames", count] => walk.frames = count.parse()?,
            ["reached", count] => walk.reached = count.parse()?,
            ["leaves", count] => walk.leaves = count.parse()?,
            ["unreadable_tables", count] => walk.unreadable = count.parse()?,
            ["leaf", address, level, area, _, frames] => walk.told.push(Leaf {
                address: u64::from_str_radix(address.trim_start_matches("0x"), 16)?,
                level: level.to_owned(),
                area: area.to_owned(),
                frames: frames.trim_start_matches("frames=").parse()?,
            }),
            _ => bail!("The witness said {line:?}"),
        }
    }
    Ok(walk)
}

fn parse_touched(line: &str) -> Result<Touched> {
    match line.split(' ').collect::<Vec<_>>()[..] {
        ["cpu", cpu, "readable", readable, "refused", refused] => {
            Ok(Touched { cpu: cpu.parse()?, readable: readable.parse()?, refused: refused.parse()? })
        }
        _ => bail!("The witness said {line:?}"),
    }
}

fn parse_restored(line: &str) -> Result<Restored> {
    match line.split(' ').collect::<Vec<_>>()[..] {
        ["pages", pages, "filled", filled, "missed", missed] => {
            Ok(Restored { pages: pages.parse()?, filled: filled.parse()?, missed: missed.parse()? })
        }
        _ => bail!("The witness said {line:?}"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn parse_walk_reads_counts_and_leaves() {
        let text = "frames 3\nreached 2\nleaves 2\nunreadable_tables 0\n\
                    leaf 0xffff888000200000 2M direct pfn=0x200 frames=1\n\
                    leaf 0xffffc90000004000 4K vmalloc pfn=0x201 frames=1\n";
        let walk = parse_walk(text).unwrap();
        assert_eq!((walk.frames, walk.reached, walk.leaves), (3, 2, 2));
        assert_eq!((walk.leaves_in("direct"), walk.leaves_in("image")), (1, 0));
        assert_eq!(walk.told[1].address, 0xffff_c900_0000_4000);
        assert!(parse_walk("nonsense\n").is_err());
    }

    #[test]
    fn parse_touched_reads_a_cpu() {
        let touched = parse_touched("cpu 1 readable 0 refused 4096").unwrap();
        assert_eq!(touched, Touched { cpu: 1, readable: 0, refused: 4096 });
        assert!(parse_touched("cpu").is_err());
    }
    #[test]
    fn parse_restored_reads_counts() {
        let restored = parse_restored("pages 512 filled 1 missed 0").unwrap();
        assert_eq!(restored, Restored { pages: 512, filled: 1, missed: 0 });
        assert!(parse_restored("pages 512").is_err());
    }
}
