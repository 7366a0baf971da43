#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# linux-loader 0.14.0, `KernelLoaderResult::kernel_end` of a bzImage.
#
# Expected: the first address that the kernel leaves alone, as the field is documented to be there "in case the device
#           tree blob and initrd will be loaded adjacent to kernel image". The header says how much the kernel needs
#           before it looks at its memory map: init_size bytes from where it runs (Linux' boot protocol, 2.10 and later).
# Seen:     the end of the compressed file in memory. init_size is in the header that the loader read, and is not used.
#           Of an ELF file the same field does count what is not in the file (p_memsz).
#
# The kernel is larger unpacked than packed. An initrd at kernel_end lies where it unpacks itself, and is lost.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"; mkdir src

cat > Cargo.toml <<'TOML'
[package]
name = "finding"
version = "0.0.0"
edition = "2021"
[dependencies]
linux-loader = { version = "=0.14.0", features = ["bzimage"] }
vm-memory = { version = "=0.18.0", features = ["backend-mmap"] }
TOML
cat > src/main.rs <<'RUST'
use std::io::Cursor;

use linux_loader::loader::{BzImage, KernelLoader};
use vm_memory::{GuestAddress, GuestMemoryMmap};

const MIB: u64 = 1 << 20;

/// One setup sector behind the boot sector, and 1 MiB of packed kernel that needs 64 MiB to unpack itself.
fn image() -> Vec<u8> {
    let mut image = vec![0; 2 * 512 + MIB as usize];
    let mut put = |offset: usize, bytes: &[u8]| image[offset..][..bytes.len()].copy_from_slice(bytes);
    put(0x1f1, &[1]); // setup_sects
    put(0x1fe, &0xaa55_u16.to_le_bytes()); // boot_flag
    put(0x202, b"HdrS");
    put(0x206, &0x020f_u16.to_le_bytes()); // version
    put(0x211, &[1]); // loadflags: LOADED_HIGH
    put(0x214, &0x10_0000_u32.to_le_bytes()); // code32_start
    put(0x258, &0x10_0000_u64.to_le_bytes()); // pref_address
    put(0x260, &(64 * MIB as u32).to_le_bytes()); // init_size
    image
}

fn main() {
    let memory = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), 128 << 20)]).unwrap();
    let start = GuestAddress(MIB);
    let loaded = BzImage::load(&memory, Some(start), &mut Cursor::new(image()), Some(start)).unwrap();
    let init_size = loaded.setup_header.unwrap().init_size;
    let needed = MIB + u64::from(init_size);
    println!("The kernel needs everything up to {needed:#x} (init_size {init_size:#x} from {MIB:#x})");
    println!("kernel_end is {:#x}", loaded.kernel_end);
    std::process::exit(if loaded.kernel_end == 2 * MIB && loaded.kernel_end < needed { 0 } else { 1 });
}
RUST
cargo run --quiet
