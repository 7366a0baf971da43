// SPDX-License-Identifier: Apache-2.0
//! Small BPF programs by hand (include/uapi/linux/bpf.h): each copies a page into a map.
#![allow(unsafe_code)] // bpf(2) takes pointers.

use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::{Context, Result};
use secretvmm_canary::PAGE_SIZE;

use crate::sys;

const BPF_MAP_CREATE: u32 = 0;
const BPF_MAP_LOOKUP_ELEM: u32 = 1;
const BPF_PROG_LOAD: u32 = 5;
const BPF_PROG_TEST_RUN: u32 = 10;
const BPF_RAW_TRACEPOINT_OPEN: u32 = 17;
const BPF_MAP_TYPE_ARRAY: u32 = 2;
const BPF_PROG_TYPE_RAW_TRACEPOINT: u32 = 17;
const BPF_PSEUDO_MAP_FD: u8 = 1;

/// Helper functions by number.
const MAP_LOOKUP_ELEM: i32 = 1;
const GET_CURRENT_PID_TGID: i32 = 14;
pub(super) const PROBE_READ_USER: i32 = 112;
pub(super) const PROBE_READ_KERNEL: i32 = 113;

/// Attributes of a call, filled field by field.
struct Attributes([u8; 128]);

impl Attributes {
    fn new() -> Self {
        Attributes([0; 128])
    }

    fn word(mut self, offset: usize, value: u32) -> Self {
        self.0[offset..offset + 4].copy_from_slice(&value.to_ne_bytes());
        self
    }

    fn long(mut self, offset: usize, value: u64) -> Self {
        self.0[offset..offset + 8].copy_from_slice(&value.to_ne_bytes());
        self
    }

    fn pointer<T>(self, offset: usize, to: &[T]) -> Self {
        self.long(offset, to.as_ptr().addr() as u64)
    }

    fn descriptor(self, offset: usize, of: &OwnedFd) -> Self {
        self.word(offset, of.as_raw_fd().cast_unsigned())
    }
}

/// One page that a program writes and we read.
pub(super) struct Page(OwnedFd);

impl Page {
    pub(super) fn new() -> Result<Self> {
        let attributes = Attributes::new().word(0, BPF_MAP_TYPE_ARRAY).word(4, 4).word(8, PAGE_SIZE as u32).word(12, 1);
        // SAFETY: no pointers.
        Ok(Page(sys::owned(unsafe { sys::bpf(BPF_MAP_CREATE, &mut { attributes.0 }) }?)?))
    }

    pub(super) fn contents(&self) -> Result<[u8; PAGE_SIZE]> {
        let (key, mut page) = ([0u32], [0; PAGE_SIZE]);
        let value = page.as_mut_ptr().addr() as u64;
        let attributes = Attributes::new().descriptor(0, &self.0).pointer(8, &key).long(16, value);
        page[0] = 0;
        // SAFETY: the key is a word, and the value as large as the map's.
        unsafe { sys::bpf(BPF_MAP_LOOKUP_ELEM, &mut { attributes.0 }) }?;
        Ok(page)
    }
}

/// A loaded program.
pub(super) struct Program(OwnedFd);

impl Program {
    /// Copies a page from `address` with a helper; in a process only, if one is given.
    pub(super) fn load(page: &Page, helper: i32, address: u64, process: Option<u32>) -> Result<Self> {
        let code = code(page, helper, address, process);
        let (licence, mut log) = (*b"GPL\0", vec![0u8; 16 << 10]);
        let place = log.as_mut_ptr().addr() as u64;
        let attributes = Attributes::new()
            .word(0, BPF_PROG_TYPE_RAW_TRACEPOINT)
            .word(4, code.len() as u32)
            .pointer(8, &code)
            .pointer(16, &licence)
            .word(24, 1)
            .word(28, log.len() as u32)
            .long(32, place);
        // SAFETY: code, licence and log live, and are as long as the attributes say.
        let loaded = unsafe { sys::bpf(BPF_PROG_LOAD, &mut { attributes.0 }) };
        log.retain(|&byte| byte != 0);
        let loaded = loaded.with_context(|| format!("The verifier said: {}", String::from_utf8_lossy(&log)))?;
        Ok(Program(sys::owned(loaded)?))
    }

    /// Runs it once, in this process; gives what it returned.
    pub(super) fn run(&self) -> Result<i32> {
        let context = [0u64; 1];
        let mut attributes = Attributes::new().descriptor(0, &self.0).word(40, 8).pointer(48, &context).0;
        // SAFETY: the context has the eight bytes that the attributes say.
        unsafe { sys::bpf(BPF_PROG_TEST_RUN, &mut attributes) }?;
        Ok(i32::from_ne_bytes(attributes[4..8].try_into()?))
    }

    /// Runs it at a tracepoint from now on, until what is returned is dropped.
    pub(super) fn attach(&self, tracepoint: &std::ffi::CStr) -> Result<OwnedFd> {
        let attributes = Attributes::new().pointer(0, tracepoint.to_bytes_with_nul()).descriptor(8, &self.0);
        // SAFETY: the name is a C string that lives.
        Ok(sys::owned(unsafe { sys::bpf(BPF_RAW_TRACEPOINT_OPEN, &mut { attributes.0 }) }?)?)
    }
}

/// An instruction: operation, registers, offset, immediate.
fn insn(operation: u8, to: u8, from: u8, offset: i16, immediate: i32) -> u64 {
    u64::from(operation)
        | u64::from(to | from << 4) << 8
        | u64::from(offset.cast_unsigned()) << 16
        | u64::from(immediate.cast_unsigned()) << 32
}

/// A 64-bit constant, or a map, in a register.
fn load(to: u8, kind: u8, value: u64) -> [u64; 2] {
    [insn(0x18, to, kind, 0, (value as u32).cast_signed()), insn(0, 0, 0, 0, ((value >> 32) as u32).cast_signed())]
}

fn code(page: &Page, helper: i32, address: u64, process: Option<u32>) -> Vec<u64> {
    let mut code = Vec::new();
    if let Some(pid) = process {
        // if (get_current_pid_tgid() >> 32 != pid) return 0;
        code.extend([insn(0x85, 0, 0, 0, GET_CURRENT_PID_TGID), insn(0x77, 0, 0, 0, 32)]);
        code.extend([insn(0x15, 0, 0, 2, pid.cast_signed()), insn(0xb7, 0, 0, 0, 0), insn(0x95, 0, 0, 0, 0)]);
    }
    // value = lookup(page, &0); if (!value) return 0;
    code.extend([insn(0x62, 10, 0, -4, 0), insn(0xbf, 2, 10, 0, 0), insn(0x07, 2, 0, 0, -4)]);
    code.extend(load(1, BPF_PSEUDO_MAP_FD, page.0.as_raw_fd().cast_unsigned().into()));
    code.extend([insn(0x85, 0, 0, 0, MAP_LOOKUP_ELEM), insn(0x55, 0, 0, 1, 0), insn(0x95, 0, 0, 0, 0)]);
    // return helper(value, PAGE_SIZE, address);
    code.extend([insn(0xbf, 1, 0, 0, 0), insn(0xb7, 2, 0, 0, PAGE_SIZE as i32)]);
    code.extend(load(3, 0, address));
    code.extend([insn(0x85, 0, 0, 0, helper), insn(0x95, 0, 0, 0, 0)]);
    code
}
