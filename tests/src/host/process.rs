// SPDX-License-Identifier: Apache-2.0
//! A process's mappings and the frames behind them, as `/proc` shows them to root.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result, ensure};

use crate::area::Area;

/// Bytes in a base page.
pub const PAGE_SIZE: u64 = 4096;

/// A line of `/proc/PID/maps`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// First address.
    pub start: u64,
    /// Address after the last.
    pub end: u64,
    /// Permissions, such as `rw-s`.
    pub permissions: String,
    /// File or name of the mapping; empty when anonymous.
    pub name: String,
}

/// A page that a process has mapped at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MappedPage {
    /// Its address in the process.
    pub hva: u64,
    /// Its frame: the physical address divided by 4096.
    pub pfn: u64,
}

/// The process's mappings.
///
/// # Errors
/// The process is gone.
pub fn mappings(pid: u32) -> Result<Vec<Mapping>> {
    let path = format!("/proc/{pid}/maps");
    let text = fs::read_to_string(&path).with_context(|| format!("Cannot read {path}"))?;
    Ok(text.lines().filter_map(parse_mapping).collect())
}

/// The pages of guest RAM that are there: the pages mapped in every writable mapping of at least 1 MiB. That takes in
/// more than guest RAM (a heap, a stack), never less.
///
/// # Errors
/// The process is gone, or we lack CAP_SYS_ADMIN and see no frame numbers.
pub fn resident_pages(pid: u32) -> Result<Vec<MappedPage>> {
    let pagemap = File::open(format!("/proc/{pid}/pagemap")).context("Cannot open the pagemap")?;
    let mut pages = Vec::new();
    for mapping in mappings(pid)? {
        if mapping.permissions.starts_with("rw") && mapping.end - mapping.start >= 1 << 20 {
            collect_present(&pagemap, &mapping, &mut pages)?;
        }
    }
    Ok(pages)
}

/// The frame behind one address, if a page is mapped there.
///
/// # Errors
/// As [`resident_pages`].
pub fn frame_at(pid: u32, address: u64) -> Result<Option<u64>> {
    let pagemap = File::open(format!("/proc/{pid}/pagemap")).context("Cannot open the pagemap")?;
    let start = address / PAGE_SIZE * PAGE_SIZE;
    let mapping = Mapping { start, end: start + PAGE_SIZE, permissions: String::new(), name: String::new() };
    let mut pages = Vec::new();
    collect_present(&pagemap, &mapping, &mut pages)?;
    Ok(pages.first().map(|page| page.pfn))
}

/// The frames of a mapping of our own, page by page.
///
/// # Errors
/// As [`resident_pages`], or a page is not mapped at this moment.
pub fn frames_of(area: &Area) -> Result<Vec<u64>> {
    let pagemap = File::open("/proc/self/pagemap").context("Cannot open the pagemap")?;
    let (start, end) = (area.address(), area.address() + area.length() as u64);
    let mapping = Mapping { start, end, permissions: String::new(), name: String::new() };
    let mut pages = Vec::new();
    collect_present(&pagemap, &mapping, &mut pages)?;
    ensure!(pages.len() as u64 == (end - start) / PAGE_SIZE, "Only {} pages are mapped", pages.len());
    Ok(pages.iter().map(|page| page.pfn).collect())
}

/// Reads pagemap entries (Documentation/admin-guide/mm/pagemap.rst: bit 63 present, bits 0–54 the frame).
fn collect_present(pagemap: &File, mapping: &Mapping, pages: &mut Vec<MappedPage>) -> Result<()> {
    const PRESENT: u64 = 1 << 63;
    const FRAME: u64 = (1 << 55) - 1;
    let mut entries = vec![0; 64 * 1024];
    let mut hva = mapping.start;
    while hva < mapping.end {
        let wanted = entries.len().min(((mapping.end - hva) / PAGE_SIZE * 8) as usize);
        let read = pagemap.read_at(&mut entries[..wanted], hva / PAGE_SIZE * 8).context("Cannot read the pagemap")?;
        if read == 0 {
            break;
        }
        for entry in entries[..read].as_chunks::<8>().0 {
            let entry = u64::from_le_bytes(*entry);
            if entry & PRESENT != 0 && entry & FRAME != 0 {
                pages.push(MappedPage { hva, pfn: entry & FRAME });
            }
            hva += PAGE_SIZE;
        }
    }
    Ok(())
}

fn parse_mapping(line: &str) -> Option<Mapping> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let permissions = fields.next()?.to_owned();
    Some(Mapping {
        start: u64::from_str_radix(start, 16).ok()?,
        end: u64::from_str_radix(end, 16).ok()?,
        permissions,
        name: fields.skip(3).collect::<Vec<_>>().join(" "),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_mapping_secret_memory_keeps_its_name() {
        let line = "7f0000000000-7f0080000000 rw-s 00000000 00:0d 1041                       /secretmem (deleted)";
        let mapping = parse_mapping(line);
        assert_eq!(mapping.as_ref().map(|m| m.name.as_str()), Some("/secretmem (deleted)"));
        assert_eq!(mapping.map(|m| m.end - m.start), Some(2 << 30));
    }
}
