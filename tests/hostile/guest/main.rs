// SPDX-License-Identifier: Apache-2.0
//! A guest that does to its devices what no driver would, for as many steps as its command line says, chosen by a seed.
//!
//! It runs on one processor without interrupts, and says after each round how much it has done.
#![no_std]
#![no_main]

mod cpu;
mod net;
mod platform;
mod rng;
mod traffic;
mod virtio;
mod vsock;

use core::sync::atomic::Ordering;

use cpu::{OPERATIONS, Width, get};
use rng::Rng;
use virtio::{Device, NET, VSOCK};

core::arch::global_asm!(include_str!("boot.s"), options(att_syntax));

/// Steps between two words to the host.
const ROUND: u64 = 500;
/// What a round is about; the numbers are those of `round=`.
const ROUNDS: u64 = 8;

struct Guest {
    rng: Rng,
    devices: [Device; 8],
    count: usize,
}

/// # Safety
/// Called once, by boot.s.
#[unsafe(no_mangle)]
unsafe extern "C" fn guest_main(start_info: u64) -> ! {
    let line = command_line(get(start_info + 24));
    let number = |key| word(line, key).map(parse);
    let mut guest = Guest::new(number(b"seed=").unwrap_or(0));
    let rounds = number(b"rounds=").unwrap_or(u64::MAX);
    let only = number(b"round=");
    virtio::fill_long_table();
    for _ in 0..rounds {
        let drawn = guest.rng.below(ROUNDS);
        guest.round(only.unwrap_or(drawn));
        report();
    }
    platform::end(word(line, b"end=").unwrap_or(b""))
}

impl Guest {
    fn new(seed: u64) -> Self {
        let mut guest = Self { rng: Rng::new(seed), devices: [Device::default(); 8], count: 0 };
        for device in (0..8).filter_map(Device::find) {
            guest.devices[guest.count] = device;
            guest.count += 1;
        }
        guest.set_up(true);
        guest
    }

    fn set_up(&mut self, fair: bool) {
        self.devices[..self.count].iter_mut().for_each(|device| device.set_up(&self.rng, fair));
        self.one_of(VSOCK, vsock::begin);
    }

    fn round(&mut self, kind: u64) {
        let fair = !self.rng.one_in(4);
        let wild = self.rng.one_in(2);
        // What is amid something stays so now and then; connections need it.
        let anew = if kind == 5 { self.rng.one_in(256) } else { !self.rng.one_in(4) };
        if kind != 1 && anew {
            self.set_up(fair);
        }
        if kind == 7 {
            return self.long_chains();
        }
        for _ in 0..ROUND {
            let at = self.rng.below(self.count as u64) as usize;
            let (device, rng) = (&mut self.devices[at], &self.rng);
            match kind {
                0 => mix(device, rng),
                1 => device.set_up(rng, false),
                2 => traffic::offer(device, rng, wild),
                3 => platform::step(rng),
                4 => registers(device, rng),
                5 => self.one_of(VSOCK, vsock::storm),
                _ => self.one_of(NET, |device, rng| dialogue(device, rng, wild)),
            }
        }
    }

    /// Each device's first queue is full of the longest chains, and the network device has something to say.
    fn long_chains(&mut self) {
        for device in &mut self.devices[..self.count] {
            device.set_up(&self.rng, true);
            traffic::long_chains(device, &self.rng);
        }
        for _ in 0..16 {
            self.one_of(NET, |device, rng| {
                net::send(device, rng, false);
                device.notify(1);
            });
        }
    }

    fn one_of(&mut self, id: u32, act: impl Fn(&mut Device, &Rng)) {
        if let Some(device) = self.devices[..self.count].iter_mut().find(|device| device.id == id) {
            act(device, &self.rng);
        }
    }
}

/// A frame for the metadata service, and now and then room for what it says.
fn dialogue(device: &mut Device, rng: &Rng, wild: bool) {
    net::send(device, rng, wild);
    device.notify(1);
    traffic::offer(device, rng, false);
}

fn mix(device: &mut Device, rng: &Rng) {
    match rng.below(16) {
        0 => device.set_up(rng, false),
        1 => device.set_up(rng, true),
        2..5 => registers(device, rng),
        5 => platform::step(rng),
        _ => traffic::offer(device, rng, true),
    }
}

/// Loads and stores of every width, anywhere in a device's page and over its edges.
fn registers(device: &Device, rng: &Rng) {
    let offset = match rng.below(4) {
        0 => rng.below(0x1008),
        1 => 0xfff - rng.below(16),
        _ => rng.below(0x120) & !3,
    };
    let at = device.base + offset;
    let width = rng.pick(&[Width::One, Width::Two, Width::Four, Width::Four, Width::Four, Width::Eight]);
    match rng.below(16) {
        0..6 => _ = cpu::load(at, width),
        6 => cpu::locked_add(at & !3, rng.odd() as u32),
        7 => cpu::store_many(at & !3, rng.below(64), rng.odd() as u32),
        _ => cpu::store(at, width, rng.odd()),
    }
}

/// Says how many operations there were: `@123@` on a line.
fn report() {
    let mut digits = [b'0'; 24];
    let mut number = OPERATIONS.load(Ordering::Relaxed);
    digits[23] = b'@';
    for digit in digits[..23].iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
    platform::say(b"\n@");
    platform::say(&digits);
}

fn command_line(at: u64) -> &'static [u8] {
    let len = (0..2048).take_while(|byte| get::<u8>(at + byte) != 0).count();
    // SAFETY: The VMM has put it there; nobody writes to it.
    unsafe { core::slice::from_raw_parts(at as *const u8, len) }
}

/// What follows `key` up to the next space.
fn word<'a>(line: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    line.split(|byte| *byte == b' ').find_map(|word| word.strip_prefix(key))
}

fn parse(digits: &[u8]) -> u64 {
    digits
        .iter()
        .fold(0, |number: u64, digit| number.wrapping_mul(10).wrapping_add(u64::from(digit.wrapping_sub(b'0'))))
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    platform::say(b"\n@PANIC@");
    cpu::halt()
}

/// # Safety
/// As C's.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, value: i32, len: usize) -> *mut u8 {
    // SAFETY: The caller's promise.
    unsafe { core::arch::asm!("rep stosb", inout("rdi") to => _, inout("rcx") len => _, in("al") value as u8) }
    to
}

/// # Safety
/// As C's.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    // SAFETY: The caller's promise.
    unsafe { core::arch::asm!("rep movsb", inout("rdi") to => _, inout("rsi") from => _, inout("rcx") len => _) }
    to
}

/// # Safety
/// As C's.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(one: *const u8, other: *const u8, len: usize) -> i32 {
    for at in 0..len {
        // SAFETY: The caller's promise.
        let (a, b) = unsafe { (one.add(at).read_volatile(), other.add(at).read_volatile()) };
        if a != b {
            return i32::from(a) - i32::from(b);
        }
    }
    0
}
