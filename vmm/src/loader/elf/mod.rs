// SPDX-License-Identifier: Apache-2.0
//! ELF `vmlinux`, entered by PVH: the note XEN_ELFNOTE_PHYS32_ENTRY holds the 32-bit entry
//! (xen/include/public/elfnote.h; Linux's arch/x86/platform/pvh/head.S).

use std::ops::Range;

use linux_loader::elf::{Elf64_Ehdr, Elf64_Phdr};
use vm_memory::ByteValued;

use super::{Error, Source};
use crate::layout;
use crate::memory::GuestMemory;

pub(super) const MAGIC: &[u8] = b"\x7fELF";

const CLASS_64_LITTLE: [u8; 2] = [2, 1];
const MACHINE_X86_64: u16 = 62;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
/// More than any kernel has, and little to read.
const MAX_HEADERS: u16 = 64;
const MAX_NOTES: u64 = 64 << 10;
const NOTE_PHYS32_ENTRY: u32 = 18;

/// An ELF image whose program headers have been checked.
#[derive(Debug)]
pub struct ElfImage {
    source: Source,
    segments: Vec<Elf64_Phdr>,
    entry: u32,
}

impl ElfImage {
    /// Checks everything that loading relies on; `head` is the start of the file.
    pub(super) fn parse(mut source: Source, head: &[u8]) -> Result<Self, Error> {
        let headers = read_headers(&mut source, head)?;
        let entry = find_entry(&mut source, &headers)?;
        let segments: Vec<_> = headers.into_iter().filter(|header| header.p_type == PT_LOAD).collect();
        for segment in &segments {
            check_segment(&source, segment)?;
        }
        let image = Self { source, segments, entry };
        if !image.footprint().contains(&u64::from(entry)) {
            return Err(image.source.bad(format!("its PVH entry {entry:#x} lies outside its segments")));
        }
        Ok(image)
    }

    /// The 32-bit entry's guest-physical address.
    pub fn entry(&self) -> u64 {
        u64::from(self.entry)
    }

    pub(super) fn footprint(&self) -> Range<u64> {
        let start = self.segments.iter().map(|segment| segment.p_paddr).min().unwrap_or(0);
        let end = self.segments.iter().map(|segment| segment.p_paddr + segment.p_memsz).max().unwrap_or(0);
        start..end
    }

    /// Where [`Self::load`] puts what: guest-physical addresses and lengths, in this order.
    pub(super) fn pieces(&self) -> impl Iterator<Item = (u64, u64)> {
        self.segments.iter().map(|segment| (segment.p_paddr, segment.p_filesz))
    }

    pub(super) fn load(&mut self, memory: &GuestMemory) -> Result<(), Error> {
        for segment in &self.segments {
            // The rest up to p_memsz is zero already: guest RAM is fresh.
            self.source.copy_to(segment.p_offset, segment.p_filesz, memory, segment.p_paddr)?;
        }
        Ok(())
    }
}

fn read_headers(source: &mut Source, head: &[u8]) -> Result<Vec<Elf64_Phdr>, Error> {
    let header: Elf64_Ehdr = from_prefix(head).ok_or_else(|| source.truncated(size_of::<Elf64_Ehdr>() as u64))?;
    if header.e_ident.get(4..6) != Some(&CLASS_64_LITTLE[..]) || header.e_machine != MACHINE_X86_64 {
        return Err(source.bad("it is an ELF file, but none for x86-64"));
    }
    let size = size_of::<Elf64_Phdr>();
    if usize::from(header.e_phentsize) != size || header.e_phnum == 0 || header.e_phnum > MAX_HEADERS {
        return Err(source.bad("its program headers are missing or malformed"));
    }
    let len = size * usize::from(header.e_phnum);
    let end = header.e_phoff.checked_add(len as u64).ok_or_else(|| source.bad("its program headers wrap around"))?;
    if end > source.len {
        return Err(source.truncated(end));
    }
    let table = source.read_at(header.e_phoff, len)?;
    Ok(table.chunks_exact(size).filter_map(from_prefix).collect())
}

fn check_segment(source: &Source, segment: &Elf64_Phdr) -> Result<(), Error> {
    let file_end = segment.p_offset.checked_add(segment.p_filesz);
    let file_end = file_end.ok_or_else(|| source.bad("a segment wraps around"))?;
    if file_end > source.len {
        return Err(source.truncated(file_end));
    }
    if segment.p_filesz > segment.p_memsz {
        return Err(source.bad("a segment has more bytes in the file than in memory"));
    }
    let end = segment.p_paddr.checked_add(segment.p_memsz);
    if segment.p_paddr < layout::HIMEM || end.is_none_or(|end| end > layout::HOLE_START) {
        let address = segment.p_paddr;
        return Err(source.bad(format!("its segment at {address:#x} is not between 1 MiB and 3 GiB")));
    }
    Ok(())
}

fn find_entry(source: &mut Source, headers: &[Elf64_Phdr]) -> Result<u32, Error> {
    for header in headers.iter().filter(|header| header.p_type == PT_NOTE) {
        let end = header.p_offset.checked_add(header.p_filesz);
        let end = end.ok_or_else(|| source.bad("its notes wrap around"))?;
        if end > source.len {
            return Err(source.truncated(end));
        }
        let len = header.p_filesz.min(MAX_NOTES) as usize;
        let notes = source.read_at(header.p_offset, len)?;
        // PT_NOTE segments of 8-byte alignment exist; Linux's kernel notes use 4.
        if let Some(entry) = find_note(&notes, b"Xen\0", NOTE_PHYS32_ENTRY).and_then(first_word) {
            return Ok(entry);
        }
    }
    Err(source.bad("it has no PVH entry; build it with CONFIG_PVH=y or use its bzImage"))
}

fn first_word(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?))
}

/// What the first note of this name (with its NUL) and kind has: walks `namesz, descsz, type, name, desc` records,
/// each part padded to 4 bytes.
pub(crate) fn find_note<'a>(mut notes: &'a [u8], name: &[u8], kind: u32) -> Option<&'a [u8]> {
    loop {
        let word = |index: usize| first_word(notes.get(index * 4..)?);
        let (name_len, desc_len, this) = (word(0)? as usize, word(1)? as usize, word(2)?);
        let desc_start = 12_usize.checked_add(name_len.checked_next_multiple_of(4)?)?;
        let desc = notes.get(desc_start..desc_start.checked_add(desc_len)?)?;
        if this == kind && notes.get(12..12_usize.checked_add(name_len)?)? == name {
            return Some(desc);
        }
        notes = notes.get(desc_start.checked_add(desc_len.checked_next_multiple_of(4)?)?..)?;
    }
}

fn from_prefix<T: ByteValued + Default>(bytes: &[u8]) -> Option<T> {
    let mut value = T::default();
    value.as_mut_slice().copy_from_slice(bytes.get(..size_of::<T>())?);
    Some(value)
}

#[cfg(test)]
pub(super) mod tests;
