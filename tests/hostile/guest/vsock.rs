// SPDX-License-Identifier: Apache-2.0
//! Packets of the socket device: connections to listeners and silent ones, ended in every way.

use crate::cpu::{Width, load, put};
use crate::rng::Rng;
use crate::virtio::{Buffer, Device, place};

const REQUEST: u16 = 1;
const RESET: u16 = 3;
const DATA: u16 = 5;

/// A packet for queue 1.
pub fn send(device: &mut Device, rng: &Rng, wild: bool) {
    let operation = rng.pick(&[REQUEST, REQUEST, 2, RESET, 4, DATA, DATA, DATA, 6, 7, rng.odd() as u16]);
    packet(device, rng, operation, 1 + rng.below(8) as u32, wild);
}

/// A connection that stays, if there is none yet.
pub fn begin(device: &mut Device, rng: &Rng) {
    packet(device, rng, REQUEST, 99, false);
    device.notify(1);
}

/// A connection that ends at once, while the device has no buffer to answer with.
pub fn storm(device: &mut Device, rng: &Rng) {
    for operation in [REQUEST, RESET] {
        packet(device, rng, operation, 100, false);
        device.notify(1);
    }
}

fn packet(device: &mut Device, rng: &Rng, operation: u16, source: u32, wild: bool) {
    let at = place(rng, false);
    let len = if operation == DATA { rng.pick(&[0, 1, 100, 4096, 60000]) } else { 0 };
    let odd = wild && rng.one_in(8);
    put(at, load(device.base + 0x100, Width::Eight));
    put(at + 8, if odd { rng.odd() } else { 2 });
    put(at + 16, source);
    put(at + 20, if source < 99 { rng.pick(&[5000_u32, 5000, 5001, 5002]) } else { 5000 });
    put(at + 24, if odd { rng.odd() as u32 } else { len });
    put(at + 28, if odd { rng.odd() as u16 } else { 1 });
    put(at + 30, operation);
    put(at + 32, rng.pick(&[0_u32, 1, 2, 3]));
    put(at + 36, rng.pick(&[0_u32, 1, 65536, 262_144, u32::MAX]));
    put(at + 40, if wild { rng.odd() as u32 } else { 0 });
    let head = Buffer { address: at, len: 44, flags: 0 };
    let body = Buffer { address: place(rng, wild), len, flags: 0 };
    match len {
        0 => device.offer(rng, 1, &[head], false),
        _ => device.offer(rng, 1, &[head, body], wild && rng.one_in(8)),
    }
}
