// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::super::Kernel;
use super::super::testing::{open, open_patched};
use super::*;

const NOTE_AT: usize = 0x100;
const TEXT_AT: usize = 0x200;

/// One PT_LOAD of 0x100 bytes at 16 MiB and one PT_NOTE with the PVH entry 0x1000010.
pub(in crate::loader) fn image() -> Vec<u8> {
    let mut bytes = vec![0; 0x300];
    let header = |p_type, p_offset, p_paddr, p_filesz, p_memsz| Elf64_Phdr {
        p_type,
        p_offset,
        p_paddr,
        p_filesz,
        p_memsz,
        ..Default::default()
    };
    let mut ehdr = Elf64_Ehdr { e_machine: 62, e_phoff: 64, e_phentsize: 56, e_phnum: 2, ..Default::default() };
    ehdr.e_ident[..6].copy_from_slice(b"\x7fELF\x02\x01");
    let mut put = |offset: usize, value: &[u8]| bytes[offset..offset + value.len()].copy_from_slice(value);
    put(0, ehdr.as_slice());
    put(64, header(PT_LOAD, TEXT_AT as u64, 0x100_0000, 0x100, 0x200).as_slice());
    put(120, header(PT_NOTE, NOTE_AT as u64, 0, 40, 40).as_slice());
    // A foreign note of 3 + 1 bytes first, then ours.
    put(NOTE_AT, b"\x03\0\0\0\x01\0\0\0\x12\0\0\0GN\0\0\x55\0\0\0");
    put(NOTE_AT + 20, b"\x04\0\0\0\x04\0\0\0\x12\0\0\0Xen\0\x10\0\0\x01");
    bytes
}

fn patched(offset: usize, value: &[u8]) -> Result<Kernel, Error> {
    open_patched(image(), offset, value)
}

#[test]
fn parse_good_image_finds_the_pvh_entry() {
    let Kernel::Elf(image) = open(&image()).unwrap() else { panic!("not an ELF") };
    assert_eq!(image.entry(), 0x100_0010);
    assert_eq!(image.footprint(), 0x100_0000..0x100_0200);
}

#[test]
fn parse_every_truncation_is_an_error() {
    let whole = image();
    for len in 0..whole.len() {
        assert!(open(&whole[..len]).is_err(), "{len}");
    }
}

#[test]
fn parse_each_lie_is_an_error_that_names_it() {
    let max = u64::MAX.to_le_bytes();
    for (offset, value, word) in [
        (4, &[1][..], "x86-64"),
        (18, &[183, 0], "x86-64"),
        (56, &[0, 0], "program headers"),
        (56, &[0xff, 0xff], "program headers"),
        (32, &max, "program headers"),
        (64 + 8, &max, "wraps"),
        (64 + 32, &0x101_u64.to_le_bytes(), "truncated"),
        (64 + 40, &0xff_u64.to_le_bytes(), "more bytes in the file"),
        (64 + 24, &0_u64.to_le_bytes(), "1 MiB"),
        (64 + 24, &max, "1 MiB"),
        (64 + 40, &max, "1 MiB"),
        (120 + 32, &0_u64.to_le_bytes(), "no PVH entry"),
        (NOTE_AT, &[0xff; 4], "no PVH entry"),
        (NOTE_AT + 36, &[0; 4], "outside"),
    ] {
        let err = patched(offset, value).expect_err(word);
        assert!(err.to_string().contains(word), "{offset:#x}: {err}");
    }
}

#[test]
fn parse_any_byte_changed_never_panics_and_never_leaves_the_bounds() {
    for offset in 0..NOTE_AT + 40 {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let Ok(kernel) = patched(offset, &[value]) else { continue };
            let footprint = kernel.footprint();
            assert!(footprint.start >= layout::HIMEM && footprint.end <= layout::HOLE_START);
        }
    }
}
