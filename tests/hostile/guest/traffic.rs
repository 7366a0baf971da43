// SPDX-License-Identifier: Apache-2.0
//! What a hostile driver puts into each device's queues.

use crate::cpu::put;
use crate::net;
use crate::rng::Rng;
use crate::virtio::{BLOCK, Buffer, Device, INDIRECT, LONG_TABLE, NET, VSOCK, WRITE, place};
use crate::vsock;

/// One more chain for one of the device's queues, and a notification most of the time.
pub fn offer(device: &mut Device, rng: &Rng, wild: bool) {
    let queue = rng.below(device.queues());
    match (device.id, queue) {
        (BLOCK, _) => block(device, rng, wild),
        (NET, 1) => net::send(device, rng, wild),
        (VSOCK, 1) => vsock::send(device, rng, wild),
        _ => receive(device, rng, queue, wild),
    }
    if !rng.one_in(4) {
        device.notify(queue);
    }
}

/// Buffers for what the device writes.
fn receive(device: &mut Device, rng: &Rng, queue: u64, wild: bool) {
    let mut buffers = [Buffer::default(); 4];
    let count = 1 + rng.below(4) as usize;
    for buffer in &mut buffers[..count] {
        let len = if wild { rng.odd() as u32 } else { 64 + rng.below(4096) as u32 };
        *buffer = Buffer { address: place(rng, wild), len, flags: WRITE };
    }
    device.offer(rng, queue, &buffers[..count], wild);
}

/// Chains of 65535 descriptors, of which only the last byte can be written to.
pub fn long_chains(device: &mut Device, rng: &Rng) {
    for _ in 0..256 {
        let table = Buffer { address: LONG_TABLE, len: 65535 * 16, flags: INDIRECT };
        device.offer(rng, 0, &[table], false);
    }
    device.notify(0);
}

fn block(device: &mut Device, rng: &Rng, wild: bool) {
    let header = place(rng, false);
    let kind = rng.pick(&[0_u32, 0, 1, 1, 4, 8, 11, 13, 13, 2, rng.odd() as u32]);
    let sector = if wild { rng.odd() } else { rng.below(2048) };
    put(header, kind);
    put(header + 4, 0_u32);
    put(header + 8, sector);
    let data = place(rng, wild);
    let mut len = rng.pick(&[512, 4096, 65536, 16]);
    if wild && rng.one_in(4) {
        len = rng.odd() as u32;
    }
    if kind == 11 || kind == 13 {
        put(data & 0x1ff_fff8, rng.below(4096));
        put((data & 0x1ff_fff8) + 8, rng.below(4096) | (rng.below(4) << 32));
    }
    let written = if matches!(kind, 0 | 8) { WRITE } else { 0 };
    let head = Buffer { address: header, len: 16, flags: 0 };
    let body = Buffer { address: data, len, flags: written };
    let status = Buffer { address: header + 16, len: 1, flags: WRITE };
    match rng.below(8) {
        0 => device.offer(rng, 0, &[head, status], wild),
        1 => device.offer(rng, 0, &[head, body, body, body, status], wild),
        _ => device.offer(rng, 0, &[head, body, status], wild),
    }
}
