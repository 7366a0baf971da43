// SPDX-License-Identifier: Apache-2.0
//! Loads, stores and port accesses of every width, as single instructions.

use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};

/// Hostile operations so far: accesses to devices and rings that were filled.
pub static OPERATIONS: AtomicU64 = AtomicU64::new(0);

/// Counts one.
pub fn count() {
    OPERATIONS.store(OPERATIONS.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

/// How wide an access is, in bytes.
#[derive(Clone, Copy)]
pub enum Width {
    One,
    Two,
    Four,
    Eight,
}

/// Stores to a device.
pub fn store(address: u64, width: Width, value: u64) {
    count();
    // SAFETY: The address is a device's; all of this program's memory lies elsewhere.
    unsafe {
        match width {
            Width::One => asm!("mov [{}], {}", in(reg) address, in(reg_byte) value as u8),
            Width::Two => asm!("mov [{}], {:x}", in(reg) address, in(reg) value as u16),
            Width::Four => asm!("mov [{}], {:e}", in(reg) address, in(reg) value as u32),
            Width::Eight => asm!("mov [{}], {}", in(reg) address, in(reg) value),
        }
    }
}

/// Loads from a device.
pub fn load(address: u64, width: Width) -> u64 {
    count();
    let value: u64;
    // SAFETY: As for [`store`].
    unsafe {
        match width {
            Width::One => asm!("movzx {:e}, byte ptr [{}]", out(reg) value, in(reg) address),
            Width::Two => asm!("movzx {:e}, word ptr [{}]", out(reg) value, in(reg) address),
            Width::Four => asm!("mov {:e}, [{}]", out(reg) value, in(reg) address),
            Width::Eight => asm!("mov {}, [{}]", out(reg) value, in(reg) address),
        }
    }
    value
}

/// Adds to a device's register with a lock: a load and a store of one instruction.
pub fn locked_add(address: u64, value: u32) {
    count();
    // SAFETY: As for [`store`].
    unsafe { asm!("lock add dword ptr [{}], {:e}", in(reg) address, in(reg) value) }
}

/// Stores `words` words in a row with one instruction.
pub fn store_many(address: u64, words: u64, value: u32) {
    count();
    // SAFETY: As for [`store`].
    unsafe { asm!("rep stosd", inout("rdi") address => _, inout("rcx") words => _, in("eax") value) }
}

/// Writes to a port.
pub fn write_port(port: u16, width: Width, value: u32) {
    count();
    // SAFETY: No port changes this program's memory.
    unsafe {
        match width {
            Width::One => asm!("out dx, al", in("dx") port, in("al") value as u8),
            Width::Two => asm!("out dx, ax", in("dx") port, in("ax") value as u16),
            _ => asm!("out dx, eax", in("dx") port, in("eax") value),
        }
    }
}

/// Reads from a port.
pub fn read_port(port: u16, width: Width) -> u32 {
    count();
    let value: u32;
    // SAFETY: No port changes this program's memory.
    unsafe {
        match width {
            Width::One => asm!("xor eax, eax", "in al, dx", in("dx") port, out("eax") value),
            Width::Two => asm!("xor eax, eax", "in ax, dx", in("dx") port, out("eax") value),
            _ => asm!("in eax, dx", in("dx") port, out("eax") value),
        }
    }
    value
}

/// Writes bytes from memory to one port with one instruction.
pub fn write_port_many(port: u16, address: u64, count_of_bytes: u64) {
    count();
    // SAFETY: It reads this program's own memory.
    unsafe { asm!("rep outsb", in("dx") port, inout("rsi") address => _, inout("rcx") count_of_bytes => _) }
}

/// Writes to this program's own memory, which a device may read at any time.
pub fn put<T>(address: u64, value: T) {
    // SAFETY: The address lies in rings or buffers, which are no Rust object's.
    unsafe { (address as *mut T).write_volatile(value) }
}

/// Reads this program's own memory, which a device may write at any time.
pub fn get<T>(address: u64) -> T {
    // SAFETY: As for [`put`]; only integers are read.
    unsafe { (address as *const T).read_volatile() }
}

/// Stands still until an interrupt that never comes: a system call, whose handler does that.
pub fn halt() -> ! {
    // SAFETY: It does not return.
    unsafe { asm!("syscall", options(noreturn)) }
}

/// An exception without a handler: the processor shuts down.
pub fn triple_fault() -> ! {
    // SAFETY: It ends this program.
    unsafe { asm!("ud2", options(noreturn)) }
}
