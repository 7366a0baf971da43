// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::PathBuf;

use vm_memory::{Bytes, GuestAddress};

use super::super::Kernel;
use super::super::testing::{open, open_patched};
use super::*;
use crate::memory::{GuestRam, RamKind};

const PAYLOAD: usize = 0x1000;

/// A well-formed image: one setup sector after the boot sector, then the payload.
pub(in crate::loader) fn image() -> Vec<u8> {
    let mut bytes = vec![0; 1024 + PAYLOAD];
    let mut put = |offset: usize, value: &[u8]| bytes[offset..offset + value.len()].copy_from_slice(value);
    put(0x1f1, &[1]); // setup_sects
    put(0x1f4, &(PAYLOAD as u32 / 16).to_le_bytes()); // syssize
    put(0x1fe, &0xaa55_u16.to_le_bytes());
    put(0x200, &[0xeb, 0x6a]); // jump, to the end of the header
    put(0x202, b"HdrS");
    put(0x206, &0x020f_u16.to_le_bytes());
    put(0x211, &[1]); // loadflags
    put(0x22c, &0x7fff_ffff_u32.to_le_bytes()); // initrd_addr_max
    put(0x230, &0x20_0000_u32.to_le_bytes()); // kernel_alignment
    put(0x236, &1_u16.to_le_bytes()); // xloadflags
    put(0x238, &2047_u32.to_le_bytes()); // cmdline_size
    put(0x258, &0x100_0000_u64.to_le_bytes()); // pref_address
    put(0x260, &0x80_0000_u32.to_le_bytes()); // init_size
    put(1024, &[0xab; PAYLOAD]);
    bytes
}

fn patched(offset: usize, value: &[u8]) -> Result<Kernel, Error> {
    open_patched(image(), offset, value)
}

#[test]
fn parse_good_image_gives_entry_and_footprint() {
    let Kernel::BzImage(image) = open(&image()).unwrap() else { panic!("not a bzImage") };
    assert_eq!(image.entry(), 0x100_0200);
    assert_eq!(image.footprint(), 0x100_0000..0x180_0000);
    assert_eq!(image.initrd_limit(), 0x8000_0000);
    assert_eq!(image.cmdline_limit(), 2047);
}

#[test]
fn load_puts_payload_and_only_payload_at_its_address() {
    let mut kernel = open(&image()).unwrap();
    let ram = GuestRam::create(RamKind::Shared, 32 << 20).unwrap();
    kernel.load(ram.memory()).unwrap();
    let byte = |at| ram.memory().read_obj::<u8>(GuestAddress(at)).unwrap();
    assert_eq!((byte(0xff_ffff), byte(0x100_0000)), (0, 0xab));
    assert_eq!((byte(0x100_0fff), byte(0x100_1000)), (0xab, 0));
}

#[test]
fn parse_every_truncation_is_an_error() {
    let whole = image();
    // An empty file is refused as no image at all.
    for len in 1..whole.len() - 15 {
        let err = open(&whole[..len]).expect_err(&len.to_string());
        let expected = matches!(err, Error::Truncated { .. } | Error::UnknownFormat(_));
        assert!(expected, "{len}: {err}");
    }
}

#[test]
fn parse_each_lie_is_an_error_that_names_it() {
    for (offset, value, word) in [
        (0x206, &0x020b_u16.to_le_bytes()[..], "boot protocol is 2.11"),
        (0x211, &[0], "zImage"),
        (0x236, &[0, 0], "64-bit"),
        (0x1f4, &u32::MAX.to_le_bytes(), "truncated"),
        (0x1f1, &[255], "truncated"),
        (0x260, &0_u32.to_le_bytes(), "init_size"),
        (0x258, &0_u64.to_le_bytes(), "preferred address"),
        (0x258, &u64::MAX.to_le_bytes(), "preferred address"),
        (0x230, &0_u32.to_le_bytes(), "alignment"),
        (0x230, &3_u32.to_le_bytes(), "alignment"),
    ] {
        let err = patched(offset, value).expect_err(word);
        assert!(err.to_string().contains(word), "{err}");
    }
}

/// Every single byte of the header, with every value that tends to break parsers.
#[test]
fn parse_any_header_byte_changed_never_panics_and_never_leaves_the_bounds() {
    for offset in 0x1f1..0x26c {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let Ok(kernel) = patched(offset, &[value]) else { continue };
            let footprint = kernel.footprint();
            assert!(footprint.start >= layout::HIMEM && footprint.end > footprint.start, "{offset:#x}={value:#x}");
            assert!(kernel.cmdline_limit() < layout::CMDLINE_MAX);
        }
    }
}

#[test]
fn open_missing_file_or_directory_names_it() {
    let err = Kernel::open(&PathBuf::from("/nonexistent/bzImage")).unwrap_err();
    assert!(err.to_string().contains("/nonexistent/bzImage"));
    for path in ["/dev", "/dev/null", "/proc/version"] {
        let err = Kernel::open(&PathBuf::from(path)).unwrap_err();
        assert!(matches!(err, Error::NotRegular { .. }), "{path}: {err}");
    }
}
