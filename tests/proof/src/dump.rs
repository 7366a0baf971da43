// SPDX-License-Identifier: Apache-2.0
//! A dump of a machine as QEMU's `dump-guest-memory` writes it: an ELF core file whose segments are physical memory,
//! with a note for each CPU (QEMU's `target/i386/arch_dump.c`).

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use elf::ElfStream;
use elf::abi::{PT_LOAD, PT_NOTE};
use elf::endian::LittleEndian;
use elf::file::Class;
use elf::note::{Note, NoteIterator};
use secretvmm_canary::PAGE_SIZE;

use crate::memory::Memory;

/// Bytes read at a time when all memory is looked at.
const CHUNK: usize = 4 << 20;

/// Where CR0 lies in QEMU's note: after version and size (8 bytes), 18 general registers of 8 and 10 segments of 24.
const CR0: usize = 8 + 18 * 8 + 10 * 24;

/// CR4.LA57: five levels of page tables.
const LA57: u64 = 1 << 12;

/// An opened dump.
pub struct Dump {
    file: File,
    segments: Vec<Segment>,
    cpus: Vec<Cpu>,
}

/// A stretch of physical memory.
struct Segment {
    first: u64,
    frames: u64,
    offset: u64,
}

/// What a CPU had in its control registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpu {
    /// Its page tables. While the CPU runs a guest these are the guest's.
    pub cr3: u64,
    /// Its features in use.
    pub cr4: u64,
}

impl Dump {
    /// Reads the headers of a dump.
    ///
    /// # Errors
    /// It is no dump of QEMU's.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("Cannot open {}", path.display()))?;
        let not_one = || format!("{} is no memory dump of QEMU's", path.display());
        let mut elf = ElfStream::<LittleEndian, _>::open_stream(file.try_clone()?).with_context(not_one)?;
        let headers = elf.segments().clone();
        let page = PAGE_SIZE as u64;
        let loads = headers.iter().filter(|header| header.p_type == PT_LOAD && header.p_filesz > 0);
        let mut segments: Vec<Segment> =
            loads.map(|h| Segment { first: h.p_paddr / page, frames: h.p_filesz / page, offset: h.p_offset }).collect();
        segments.sort_by_key(|segment| segment.first);
        let mut cpus = Vec::new();
        for header in headers.iter().filter(|header| header.p_type == PT_NOTE) {
            let data = elf.segment_data(header).with_context(not_one)?;
            // The header names no alignment; QEMU's is that of 32 bits.
            let notes = NoteIterator::new(LittleEndian, Class::ELF64, 4, data);
            cpus.extend(notes.filter_map(|note| cpu_of(&note)));
        }
        ensure!(!segments.is_empty() && !cpus.is_empty(), not_one());
        Ok(Dump { file, segments, cpus })
    }

    fn segment(&self, pfn: u64) -> Option<&Segment> {
        self.segments.iter().find(|segment| (segment.first..segment.first + segment.frames).contains(&pfn))
    }

    /// The CPUs, in QEMU's order.
    pub fn cpus(&self) -> &[Cpu] {
        &self.cpus
    }

    /// Levels of the host's page tables: 4 or 5.
    pub fn levels(&self) -> u8 {
        // A host turns this on for all CPUs before its first process, and its guests on their own.
        if self.cpus.iter().any(|cpu| cpu.cr4 & LA57 != 0) { 5 } else { 4 }
    }
}

fn cpu_of(note: &Note<'_>) -> Option<Cpu> {
    let Note::Unknown(note) = note else { return None };
    let register = |number: usize| {
        let bytes = note.desc.get(CR0 + number * 8..CR0 + number * 8 + 8)?;
        bytes.try_into().ok().map(u64::from_le_bytes)
    };
    (note.name.strip_suffix(b"\0").unwrap_or(note.name) == b"QEMU")
        .then(|| Some(Cpu { cr3: register(3)?, cr4: register(4)? }))
        .flatten()
}

impl Memory for Dump {
    fn page(&self, pfn: u64) -> Result<Option<[u8; PAGE_SIZE]>> {
        let Some(segment) = self.segment(pfn) else { return Ok(None) };
        let mut page = [0; PAGE_SIZE];
        let offset = segment.offset + (pfn - segment.first) * PAGE_SIZE as u64;
        self.file.read_exact_at(&mut page, offset).context("Cannot read the dump")?;
        Ok(Some(page))
    }

    fn for_each_page(&self, visit: &mut dyn FnMut(u64, &[u8; PAGE_SIZE])) -> Result<()> {
        let mut chunk = vec![0; CHUNK];
        for segment in &self.segments {
            let end = segment.first + segment.frames;
            for first in (segment.first..end).step_by(CHUNK / PAGE_SIZE) {
                let length = CHUNK.min((end - first) as usize * PAGE_SIZE);
                let offset = segment.offset + (first - segment.first) * PAGE_SIZE as u64;
                self.file.read_exact_at(&mut chunk[..length], offset).context("Cannot read the dump")?;
                let (pages, _) = chunk[..length].as_chunks::<PAGE_SIZE>();
                (first..).zip(pages).for_each(|(pfn, page)| visit(pfn, page));
            }
        }
        Ok(())
    }

    fn has(&self, pfn: u64) -> bool {
        self.segment(pfn).is_some()
    }

    fn frames(&self) -> u64 {
        self.segments.iter().map(|segment| segment.frames).sum()
    }
}
