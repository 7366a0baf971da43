// SPDX-License-Identifier: Apache-2.0
//! The devices of the machine itself, at ports.

use crate::cpu::{Width, halt, read_port, store, triple_fault, write_port, write_port_many};
use crate::rng::Rng;

const COM1: u16 = 0x3f8;
const KEYBOARD: u16 = 0x60;
const PANIC: u16 = 0x505;
const POWER: u16 = 0x600;

/// An access to a port that does not end the machine.
pub fn step(rng: &Rng) {
    let port = match rng.below(8) {
        0..4 => COM1 + rng.below(8) as u16,
        4 => KEYBOARD + rng.below(8) as u16,
        5 => PANIC,
        6 => POWER + rng.below(4) as u16,
        _ => rng.next() as u16,
    };
    let width = rng.pick(&[Width::One, Width::One, Width::Two, Width::Four]);
    match rng.below(8) {
        0..4 => _ = read_port(port, width),
        4 if port == COM1 => write_port_many(COM1, 0x10_0000, rng.below(200)),
        _ => write(rng, port, width),
    }
}

fn write(rng: &Rng, port: u16, width: Width) {
    let ends = |port: u16| matches!(port, 0x60..0x68 | 0x505..0x509 | 0x600..0x608 | 0xcf9);
    if (port.saturating_sub(4)..=port).chain([port, port.saturating_add(3)]).any(ends) {
        // Only the plain commands of the keyboard controller: others may be the reset.
        return write_port(0x64, Width::One, rng.pick(&[0x20, 0x60, 0xa7, 0xaa, 0xad, 0xd0, 0xd1, 0xff]));
    }
    write_port(port, width, rng.odd() as u32);
}

/// Says something on the console, whatever state it is in.
pub fn say(text: &[u8]) {
    for (register, value) in [(3, 3), (1, 0), (4, 0)] {
        write_port(COM1 + register, Width::One, value);
    }
    text.iter().for_each(|byte| write_port(COM1, Width::One, u32::from(*byte)));
}

/// Ends the machine, as the word says.
pub fn end(word: &[u8]) -> ! {
    match word {
        b"keyboard" => write_port(0x64, Width::One, 0xfe),
        b"reset" => write_port(POWER + 2, Width::One, 1),
        b"off" => write_port(POWER, Width::One, 0x34),
        b"panic" => write_port(PANIC, Width::One, 1),
        b"fault" => triple_fault(),
        _ => {}
    }
    // Devices that are still there must not keep the machine from its end.
    store(0xd000_0070, Width::Four, 0);
    halt()
}
