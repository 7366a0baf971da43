// SPDX-License-Identifier: Apache-2.0
//! A virtio device from a driver's side that keeps the rules, or not (virtio 1.2, section 4.2).

use crate::cpu::{Width, get, load, put, store};
use crate::rng::Rng;

const FIRST: u64 = 0xd000_0000;
const PAGE: u64 = 0x1000;
const MAGIC: u64 = 0x7472_6976;
const VERSION_1: u64 = 1 << 32;

pub const NOTIFY: u64 = 0x50;
pub const STATUS: u64 = 0x70;

pub const BLOCK: u32 = 2;
pub const NET: u32 = 1;
pub const VSOCK: u32 = 19;

/// Rings: 64 KiB a queue, 256 KiB a device.
const RINGS: u64 = 4 << 20;
const AVAIL: u64 = 0x8000;
const USED: u64 = 0xc000;
/// Buffers.
pub const DATA: u64 = 8 << 20;
pub const DATA_LEN: u64 = 16 << 20;
/// An indirect table with as many descriptors as there can be, each read-only but the last.
pub const LONG_TABLE: u64 = 26 << 20;
/// Where RAM ends.
pub const RAM_END: u64 = 32 << 20;

pub const NEXT: u16 = 1;
pub const WRITE: u16 = 2;
pub const INDIRECT: u16 = 4;

#[derive(Clone, Copy, Default)]
struct Ring {
    at: u64,
    size: u16,
    index: u16,
    seen: u16,
}

#[derive(Clone, Copy, Default)]
pub struct Device {
    pub base: u64,
    pub id: u32,
    pub features: u64,
    rings: [Ring; 4],
}

/// A piece of a chain.
#[derive(Clone, Copy, Default)]
pub struct Buffer {
    pub address: u64,
    pub len: u32,
    pub flags: u16,
}

impl Device {
    /// The device at a place, if there is one.
    pub fn find(place: u64) -> Option<Self> {
        let base = FIRST + place * PAGE;
        if load(base, Width::Four) != MAGIC {
            return None;
        }
        let mut device = Self { base, id: load(base + 8, Width::Four) as u32, ..Self::default() };
        for (queue, ring) in device.rings.iter_mut().enumerate() {
            ring.at = RINGS + place * 0x4_0000 + queue as u64 * 0x1_0000;
        }
        Some(device)
    }

    pub fn queues(&self) -> u64 {
        match self.id {
            VSOCK => 3,
            NET => 2,
            _ => 1,
        }
    }

    pub fn write(&self, register: u64, value: u64) {
        store(self.base + register, Width::Four, value);
    }

    pub fn read(&self, register: u64) -> u64 {
        load(self.base + register, Width::Four)
    }

    pub fn notify(&self, queue: u64) {
        self.write(NOTIFY, queue);
    }

    /// From reset to DRIVER_OK. `fair`: as a driver does it, but for the features that it takes.
    pub fn set_up(&mut self, rng: &Rng, fair: bool) {
        for status in [0, 1, 3] {
            self.write(STATUS, status);
        }
        self.choose_features(rng, fair);
        self.write(STATUS, 0xb);
        for queue in 0..self.queues() {
            if fair || !rng.one_in(4) {
                self.set_up_ring(rng, queue, fair);
            }
        }
        self.write(STATUS, 0xf);
    }

    fn choose_features(&mut self, rng: &Rng, fair: bool) {
        self.write(0x14, 0);
        let low = self.read(0x10);
        self.write(0x14, 1);
        let offered = self.read(0x10) << 32 | low;
        let mask = if rng.one_in(2) { u64::MAX } else { rng.next() };
        self.features = offered & mask | VERSION_1;
        if !fair && rng.one_in(8) {
            self.features = rng.next();
        }
        for half in 0..2 {
            self.write(0x24, half);
            self.write(0x20, self.features >> (32 * half) & 0xffff_ffff);
        }
    }

    fn set_up_ring(&mut self, rng: &Rng, queue: u64, fair: bool) {
        self.write(0x30, queue);
        let most = self.read(0x34);
        let size = match fair {
            true => most.min(256) >> rng.below(6),
            false => rng.pick(&[1, 2, 16, 256, most, most + 1, 3, 0, rng.odd()]),
        };
        let ring = &mut self.rings[queue as usize];
        *ring = Ring { at: ring.at, size: (size as u16).clamp(1, 256), ..Ring::default() };
        let fine = [ring.at, ring.at + AVAIL, ring.at + USED];
        put(fine[1], 0_u32);
        put(fine[2], 0_u32);
        self.write(0x38, size);
        let spoiled = if fair { 3 } else { rng.below(6) };
        for (at, (register, address)) in [0x80, 0x90, 0xa0].into_iter().zip(fine).enumerate() {
            let address = if at as u64 == spoiled { bad_address(rng) } else { address };
            self.write(register, address & 0xffff_ffff);
            self.write(register + 4, address >> 32);
        }
        self.write(0x44, 1);
    }

    /// Puts a chain of buffers into a queue's descriptors and makes it available. `wild`: with mistakes.
    pub fn offer(&mut self, rng: &Rng, queue: u64, buffers: &[Buffer], wild: bool) {
        crate::cpu::count();
        let ring = self.rings[queue as usize];
        let size = u64::from(ring.size.max(1));
        let head = rng.below(size);
        for (at, buffer) in buffers.iter().enumerate() {
            let last = at + 1 == buffers.len();
            let mut next = (head + at as u64 + 1) % size;
            let mut flags = buffer.flags | if last { 0 } else { NEXT };
            if wild && rng.one_in(16) {
                flags = rng.odd() as u16;
            }
            if wild && rng.one_in(16) {
                next = rng.odd();
            }
            descriptor(ring.at + (head + at as u64) % size * 16, *buffer, flags, next as u16);
        }
        let mut head = head as u16;
        if wild && rng.one_in(32) {
            head = rng.odd() as u16;
        }
        put(ring.at + AVAIL + 4 + u64::from(ring.index) % size * 2, head);
        let step = if wild && rng.one_in(64) { rng.odd() as u16 } else { 1 };
        let ring = &mut self.rings[queue as usize];
        ring.index = ring.index.wrapping_add(step);
        put(ring.at + AVAIL, (rng.below(4) == 0) as u16);
        put(ring.at + AVAIL + 2, ring.index);
    }

    /// The next used chain: the address and length of its first buffer, and how much was written.
    pub fn used(&mut self, queue: u64) -> Option<(u64, u32)> {
        let ring = &mut self.rings[queue as usize];
        if get::<u16>(ring.at + USED + 2) == ring.seen {
            return None;
        }
        let size = u64::from(ring.size.max(1));
        let entry = ring.at + USED + 4 + u64::from(ring.seen) % size * 8;
        ring.seen = ring.seen.wrapping_add(1);
        let (head, len) = (u64::from(get::<u32>(entry)) % size, get::<u32>(entry + 4));
        Some((get::<u64>(ring.at + head * 16), len))
    }
}

fn descriptor(at: u64, buffer: Buffer, flags: u16, next: u16) {
    put(at, buffer.address);
    put(at + 8, buffer.len);
    put(at + 12, flags);
    put(at + 14, next);
}

/// An address that is none of RAM, or at its edge.
pub fn bad_address(rng: &Rng) -> u64 {
    let edge = rng.pick(&[RAM_END, 0, FIRST, 0xa_0000, u64::MAX, 1 << 32, 0x1_0000_0000 - 16]);
    edge.wrapping_add(rng.below(64)).wrapping_sub(rng.below(64))
}

/// A piece of the data area, seldom elsewhere.
pub fn place(rng: &Rng, wild: bool) -> u64 {
    if wild && rng.one_in(16) { bad_address(rng) } else { DATA + (rng.below(DATA_LEN - 0x1_0000) & !7) }
}

/// Fills the long table: nothing that a device can write to until its last byte.
pub fn fill_long_table() {
    for at in 0..u64::from(u16::MAX) {
        let last = at == u64::from(u16::MAX) - 1;
        let buffer = Buffer { address: DATA, len: 1, flags: 0 };
        descriptor(LONG_TABLE + at * 16, buffer, if last { WRITE } else { NEXT }, at as u16 + 1);
    }
}
