#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# vm-superio 0.8.2, `Serial`: a 16550A's receive interrupt.
#
# Expected: with FIFOs on, "received data available" stays pending in IIR until the FIFO is below its trigger level
#           (National Semiconductor PC16550D, 8.4 and 8.5). IIR says that the FIFOs are on (bits 7:6).
# Seen:     the first read of RBR clears it, with two bytes left. LSR still says that there is data, IIR says that
#           nothing is pending, and no further interrupt comes.
#
# Linux reads until LSR says empty and does not notice. A driver that takes one byte an interrupt waits for ever.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"; mkdir src

cat > Cargo.toml <<'TOML'
[package]
name = "finding"
version = "0.0.0"
edition = "2021"
[dependencies]
vm-superio = "=0.8.2"
TOML
cat > src/main.rs <<'RUST'
use std::cell::Cell;
use std::rc::Rc;
use vm_superio::{Serial, Trigger};

struct Line(Rc<Cell<u32>>);

impl Trigger for Line {
    type E = std::io::Error;
    fn trigger(&self) -> Result<(), Self::E> {
        self.0.set(self.0.get() + 1);
        Ok(())
    }
}

const RBR: u8 = 0;
const IER: u8 = 1;
const IIR: u8 = 2;
const LSR: u8 = 5;

fn main() {
    let interrupts = Rc::new(Cell::new(0));
    let mut uart = Serial::new(Line(interrupts.clone()), std::io::sink());
    uart.write(IER, 0x01).unwrap();
    uart.enqueue_raw_bytes(b"abc").unwrap();
    uart.read(RBR);
    let (iir, lsr) = (uart.read(IIR), uart.read(LSR));
    println!("After 1 of 3 bytes: interrupts {}, IIR {iir:#04x}, LSR {lsr:#04x}", interrupts.get());
    println!("Expected IIR 0xc4 (data available, FIFOs on)");
    let surprise = iir == 0xc1 && lsr & 1 == 1 && interrupts.get() == 1;
    std::process::exit(if surprise { 0 } else { 1 });
}
RUST
cargo run --quiet
