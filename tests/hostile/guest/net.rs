// SPDX-License-Identifier: Apache-2.0
//! Frames: to the metadata service with valid checksums and a connection's state, to the network, and nonsense.

use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::cpu::{get, put};
use crate::rng::Rng;
use crate::virtio::{Buffer, Device, place};

const SERVICE: [u8; 4] = [169, 254, 169, 254];
const REQUESTS: [&[u8]; 5] = [
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET /latest/meta-data HTTP/1.1\r\nAccept: application/json\r\n\r\n",
    b"PUT /latest/api/token HTTP/1.1\r\nX-metadata-token-ttl-seconds: 60\r\n\r\n",
    b"GET /a/b HTTP/1.0\r\nX-",
    b"PUT / HTTP/1.1\r\nContent-Length: 99999\r\n\r\nxxx",
];

/// The connection's next sequence numbers, ours and theirs.
static SEQUENCE: AtomicU32 = AtomicU32::new(0);
static ACKNOWLEDGED: AtomicU32 = AtomicU32::new(0);
static PORT: AtomicU32 = AtomicU32::new(40000);

/// A frame for queue 1.
pub fn send(device: &mut Device, rng: &Rng, wild: bool) {
    listen(device);
    let at = place(rng, false);
    for byte in 0..12 {
        put(at + byte, if wild && rng.one_in(4) { rng.next() as u8 } else { 0 });
    }
    let len = match rng.below(8) {
        0 => noise(at + 12, rng),
        1 => arp(at + 12, rng),
        _ => tcp(at + 12, rng, wild),
    };
    let cut = if wild { rng.below(12 + len) } else { 12 };
    let head = Buffer { address: at, len: cut as u32, flags: 0 };
    let body = Buffer { address: at + cut, len: (12 + len - cut) as u32, flags: 0 };
    device.offer(rng, 1, &[head, body], wild && rng.one_in(8));
}

/// Learns from what the service has sent.
fn listen(device: &mut Device) {
    while let Some((at, len)) = device.used(0) {
        if len > 66 && at < 32 << 20 && get::<[u8; 4]>(at + 12 + 26) == SERVICE {
            let words = u64::from(get::<u8>(at + 12 + 46) >> 4) * 4;
            let payload = u64::from(len).saturating_sub(12 + 34 + words) as u32;
            let theirs = u32::from_be_bytes(get(at + 12 + 38));
            let synchronised = u32::from(get::<u8>(at + 12 + 47) & 3 != 0);
            ACKNOWLEDGED.store(theirs.wrapping_add(payload + synchronised), Relaxed);
        }
    }
}

fn noise(at: u64, rng: &Rng) -> u64 {
    let len = rng.pick(&[1, 13, 14, 41, 60, 1514, 9000, 20000]);
    for byte in (0..len).step_by(8) {
        put(at + byte, rng.next());
    }
    ethernet(at, rng.pick(&[[8, 0], [8, 6], [0x86, 0xdd], [0x81, 0]]));
    len
}

fn ethernet(at: u64, kind: [u8; 2]) {
    put(at, [6_u8, 1, 0x23, 0x45, 0x67, 1]);
    put(at + 6, [2_u8, 0, 0, 0, 0, 1]);
    put(at + 12, kind);
}

fn address(rng: &Rng) -> [u8; 4] {
    match rng.below(8) {
        0 => (rng.next() as u32).to_be_bytes(),
        _ => [172, 20, 0, rng.pick(&[2, 2, 2, 3, 9])],
    }
}

fn arp(at: u64, rng: &Rng) -> u64 {
    ethernet(at, [8, 6]);
    put(at + 14, [0_u8, 1, 8, 0, 6, 4, 0, rng.pick(&[1, 1, 1, 2, 9])]);
    put(at + 22, [2_u8, 0, 0, 0, 0, 1]);
    put(at + 28, address(rng));
    put(at + 32, [0_u8; 6]);
    put(at + 38, SERVICE);
    42
}

fn tcp(at: u64, rng: &Rng, wild: bool) -> u64 {
    let flags = rng.pick(&[2_u8, 2, 0x10, 0x18, 0x18, 0x18, 0x11, 4, rng.next() as u8]);
    if flags == 2 {
        PORT.store(40000 + rng.below(24) as u32, Relaxed);
        SEQUENCE.store(rng.next() as u32, Relaxed);
    }
    let payload: &[u8] = if flags & 8 != 0 { rng.pick(&REQUESTS) } else { &[] };
    let len = 20 + payload.len() as u64;
    ethernet(at, [8, 0]);
    let ip = at + 14;
    put(ip, [0x45_u8, 0]);
    put(ip + 2, (20 + len as u16).to_be_bytes());
    put(ip + 4, [0_u8, 0, 0, 0, 64, 6, 0, 0]);
    put(ip + 12, address(rng));
    put(ip + 16, SERVICE);
    put(ip + 10, checksum(ip, 20, 0).to_be_bytes());
    let tcp = ip + 20;
    let sequence = SEQUENCE.load(Relaxed);
    let odd = wild && rng.one_in(8);
    put(tcp, (PORT.load(Relaxed) as u16).to_be_bytes());
    put(tcp + 2, 80_u16.to_be_bytes());
    put(tcp + 4, if odd { rng.odd() as u32 } else { sequence }.to_be_bytes());
    put(tcp + 8, if odd { rng.odd() as u32 } else { ACKNOWLEDGED.load(Relaxed) }.to_be_bytes());
    put(tcp + 12, [0x50_u8, flags]);
    put(tcp + 14, rng.pick(&[0_u16, 1, 512, 65535]).to_be_bytes());
    put(tcp + 16, [0_u8; 4]);
    for (byte, value) in payload.iter().enumerate() {
        put(tcp + 20 + byte as u64, *value);
    }
    let pseudo = sum(ip + 12, 8) + 6 + len as u32;
    put(tcp + 16, checksum(tcp, len, pseudo).to_be_bytes());
    SEQUENCE.store(sequence.wrapping_add(payload.len() as u32 + u32::from(flags & 3 != 0)), Relaxed);
    34 + len
}

fn sum(at: u64, len: u64) -> u32 {
    (0..len).map(|byte| u32::from(get::<u8>(at + byte)) << (8 * (1 - byte % 2))).sum()
}

fn checksum(at: u64, len: u64, with: u32) -> u16 {
    let mut all = sum(at, len) + with;
    while all >> 16 != 0 {
        all = (all & 0xffff) + (all >> 16);
    }
    !(all as u16)
}
