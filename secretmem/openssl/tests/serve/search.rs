// SPDX-License-Identifier: Apache-2.0
//! A search of a process's memory by those ways that a user has: /proc/PID/mem and process_vm_readv(2).
#![allow(unsafe_code)] // process_vm_readv(2)

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

/// In what form a part of the key was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// A number as OpenSSL computes with it.
    Bignum(&'static str),
    /// A number as it lies in the file, decoded.
    Der(&'static str),
    /// The text of the file.
    Pem,
}

impl What {
    pub(crate) fn is_number(self) -> bool {
        self != What::Pem
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) what: What,
    /// How it was read.
    pub(crate) by: &'static str,
    /// The mapping, as /proc/PID/maps names it.
    pub(crate) mapping: String,
}

type Probe = fn(u32, u64, &mut [u8]) -> bool;

const PROBES: [(&str, Probe); 2] = [("/proc/PID/mem", mem), ("process_vm_readv", readv)];

fn mem(pid: u32, address: u64, page: &mut [u8]) -> bool {
    File::open(format!("/proc/{pid}/mem")).is_ok_and(|mem| mem.read_exact_at(page, address).is_ok())
}

fn readv(pid: u32, address: u64, page: &mut [u8]) -> bool {
    let local = libc::iovec { iov_base: page.as_mut_ptr().cast(), iov_len: page.len() };
    let remote = libc::iovec { iov_base: address as *mut libc::c_void, iov_len: page.len() };
    // SAFETY: the kernel writes to our page only, and no more than its length.
    let read = unsafe { libc::process_vm_readv(pid as libc::pid_t, &local, 1, &remote, 1, 0) };
    read == page.len() as isize
}

/// Each readable mapping: start, end, name.
fn mappings(pid: u32) -> Vec<(u64, u64, String)> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let parse = |line: &str| {
        let fields = line.split_whitespace().collect::<Vec<_>>();
        let (start, end) = fields[0].split_once('-')?;
        let number = |text| u64::from_str_radix(text, 16).ok();
        let name = fields.get(5).unwrap_or(&"anonymous").to_string();
        fields[1].starts_with('r').then_some((number(start)?, number(end)?, name))
    };
    maps.lines().filter_map(parse).collect()
}

pub(crate) fn search(pid: u32, needles: &[(What, Vec<u8>)]) -> Vec<Found> {
    let mut found = Vec::new();
    for (start, end, mapping) in mappings(pid) {
        for (by, probe) in PROBES {
            let bytes = read(pid, start, end, probe);
            for (what, needle) in needles {
                if memchr::memmem::find(&bytes, needle).is_some() {
                    found.push(Found { what: *what, by, mapping: mapping.clone() });
                }
            }
        }
    }
    found
}

/// A mapping's bytes; pages that cannot be read are zero.
fn read(pid: u32, start: u64, end: u64, probe: Probe) -> Vec<u8> {
    let mut bytes = vec![0; (end - start) as usize];
    if !probe(pid, start, &mut bytes) {
        for (page, bytes) in bytes.chunks_mut(4096).enumerate() {
            probe(pid, start + page as u64 * 4096, bytes);
        }
    }
    bytes
}

/// Secret mappings, of which no probe reads the first page.
pub(crate) fn unreadable(pid: u32) -> usize {
    let secret = mappings(pid).into_iter().filter(|(.., name)| name.starts_with("/secretmem")).collect::<Vec<_>>();
    for (start, ..) in &secret {
        for (by, probe) in PROBES {
            assert!(!probe(pid, *start, &mut [0; 4096]), "{by} reads secret memory");
        }
    }
    secret.len()
}
