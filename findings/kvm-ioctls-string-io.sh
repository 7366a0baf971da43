#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# kvm-ioctls 0.25.1, `VcpuExit::IoIn`: string input.
#
# Expected: four inputs of one byte (`rep insb`) and one input of four bytes (`inl`) are told apart. The kernel does:
#           `kvm_run.io` has `size` and `count` (Documentation/virt/kvm/api.rst, KVM_EXIT_IO).
# Seen:     both are `IoIn(port, 4 bytes)`. `count` is multiplied into the length and gone.
#
# A bus that takes the length for the width gives the guest one register of 32 bits in place of four bytes of a FIFO.
# What was meant is only in `VcpuFd::get_kvm_run`.
set -euo pipefail
[ -w /dev/kvm ] || { echo "No /dev/kvm on this machine"; exit 2; }
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"; mkdir src

cat > Cargo.toml <<'TOML'
[package]
name = "finding"
version = "0.0.0"
edition = "2021"
[dependencies]
kvm-ioctls = "=0.25.1"
kvm-bindings = "=0.14.2"
TOML
cat > src/main.rs <<'RUST'
use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::{Kvm, VcpuExit};

/// Real mode: mov dx, 0x10; mov di, 0x2000; mov cx, 4; cld; rep insb; in eax, dx; hlt
const CODE: [u8; 15] =
    [0xba, 0x10, 0x00, 0xbf, 0x00, 0x20, 0xb9, 0x04, 0x00, 0xfc, 0xf3, 0x6c, 0x66, 0xed, 0xf4];

#[repr(align(4096))]
struct Memory([u8; 0x4000]);

fn main() {
    let memory = Box::leak(Box::new(Memory([0; 0x4000])));
    memory.0[0x1000..][..CODE.len()].copy_from_slice(&CODE);
    let vm = Kvm::new().unwrap().create_vm().unwrap();
    let slot = kvm_userspace_memory_region {
        memory_size: 0x4000,
        userspace_addr: memory as *mut Memory as u64,
        ..Default::default()
    };
    // SAFETY: the memory lives as long as the process.
    unsafe { vm.set_user_memory_region(slot).unwrap() };
    let mut vcpu = vm.create_vcpu(0).unwrap();
    let mut sregs = vcpu.get_sregs().unwrap();
    for segment in [&mut sregs.cs, &mut sregs.ds, &mut sregs.es] {
        (segment.base, segment.selector) = (0, 0);
    }
    vcpu.set_sregs(&sregs).unwrap();
    let mut regs = vcpu.get_regs().unwrap();
    (regs.rip, regs.rflags) = (0x1000, 2);
    vcpu.set_regs(&regs).unwrap();

    let mut seen = Vec::new();
    while let VcpuExit::IoIn(port, data) = vcpu.run().unwrap() {
        let length = data.len();
        // SAFETY: the exit is KVM_EXIT_IO, whose member of the union this is.
        let io = unsafe { vcpu.get_kvm_run().__bindgen_anon_1.io };
        println!("IoIn(port {port:#x}, {length} bytes); kvm_run.io: size {}, count {}", io.size, io.count);
        seen.push((length, io.size, io.count));
    }
    std::process::exit(if seen == [(4, 1, 4), (4, 4, 1)] { 0 } else { 1 });
}
RUST
cargo run --quiet
