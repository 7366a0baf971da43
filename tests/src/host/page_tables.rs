// SPDX-License-Identifier: Apache-2.0
//! The kernel's own dump of its page tables, `/sys/kernel/debug/page_tables/kernel` (lab configuration only).

use std::fs;
use std::ops::Range;

use anyhow::{Context, Result, ensure};

const DUMP: &str = "/sys/kernel/debug/page_tables/kernel";

/// Bytes of physical memory that the direct map maps at this moment.
///
/// The dump tells the truth about holes of 2 MiB only with the series' ptdump patch. It shows that memory left the
/// direct map and came back; it proves nothing about other mappings of the same frames.
///
/// # Errors
/// There is no dump (the kernel lacks PTDUMP_DEBUGFS), or it has no direct map in it.
pub fn direct_mapped_bytes() -> Result<u64> {
    let dump = fs::read_to_string(DUMP).with_context(|| format!("Cannot read {DUMP}"))?;
    let bytes = present_in_section(&dump, "Low Kernel Mapping");
    ensure!(bytes > 0, "{DUMP} shows no direct map");
    Ok(bytes)
}

/// Whether the dump shows an address of the direct map as mapped at this moment.
///
/// # Errors
/// As [`direct_mapped_bytes`]; or the dump has no such address.
pub fn is_mapped(address: u64) -> Result<bool> {
    let dump = fs::read_to_string(DUMP).with_context(|| format!("Cannot read {DUMP}"))?;
    let line = line_of(&dump, "Low Kernel Mapping", address);
    line.map(is_present).with_context(|| format!("{DUMP} has no address {address:#x} in the direct map"))
}

/// The line of a section that has an address in its range.
fn line_of<'a>(dump: &'a str, section: &str, address: u64) -> Option<&'a str> {
    let mut lines = section_lines(dump, section);
    lines.find(|line| range(line).is_some_and(|range| range.contains(&address)))
}

/// Adds up the present ranges of one section of the dump (arch/x86/mm/dump_pagetables.c).
fn present_in_section(dump: &str, section: &str) -> u64 {
    let present = section_lines(dump, section).filter(|line| is_present(line));
    present.filter_map(range).map(|range| range.end - range.start).sum()
}

fn section_lines<'a>(dump: &'a str, section: &str) -> impl Iterator<Item = &'a str> {
    let heading = format!("---[ {section} ]---");
    dump.lines().skip_while(move |line| line.trim() != heading).skip(1).take_while(|line| !line.starts_with("---["))
}

/// A present entry is writable or read-only; one that is not present has neither word.
fn is_present(line: &str) -> bool {
    line.split_ascii_whitespace().any(|word| word == "RW" || word == "ro")
}

fn range(line: &str) -> Option<Range<u64>> {
    let (start, end) = line.split_ascii_whitespace().next()?.split_once('-')?;
    let address = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16).ok();
    let range = address(start)?..address(end)?;
    (range.start <= range.end).then_some(range)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn present_in_section_skips_holes_and_other_sections() {
        let dump = "\
---[ User Space ]---
0x0000000000000000-0xffff800000000000    16777088T                               pgd
---[ Low Kernel Mapping ]---
0xffff888000000000-0xffff888000200000           2M     RW                 GLB NX pte
0xffff888000200000-0xffff888000400000           2M                               pmd
0xffff888000400000-0xffff888000401000           4K     ro                 GLB NX pte
---[ vmalloc() Area ]---
0xffffc90000000000-0xffffc90000001000           4K     RW                 GLB NX pte
";
        assert_eq!(present_in_section(dump, "Low Kernel Mapping"), (2 << 20) + 4096);
    }
}
