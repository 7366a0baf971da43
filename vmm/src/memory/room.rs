// SPDX-License-Identifier: Apache-2.0
//! Room to say that memory ran out, where a control group's limit leaves none.
//!
//! At the limit the kernel takes back first what it can read again from disk: this program's code, too. Whoever then runs
//! code that has gone is killed, without a word. So what has run by now stays while guest RAM is populated, and some memory is
//! held, which is given back before anything that has not run yet.
#![allow(unsafe_code)] // mlock2(2) and munlock(2).

use std::ffi::c_void;
use std::fs;
use std::ptr;

use rustix::mm::{MlockFlags, mlock_with, munlock};
use vm_memory::{Bytes, MmapRegion, VolatileMemory};

/// Enough for the pages of the code that is still to come.
const BYTES: usize = 1 << 20;
const PAGE: usize = 4096;

/// Dropping it gives the memory back, then lets code go as before. Where a limit or a missing `/proc` keeps it from being
/// had, there is less of it: that is no reason not to start a guest.
#[derive(Debug)]
pub(super) struct Room {
    // In the order in which they have to go.
    _memory: Option<MmapRegion>,
    _code: LockedFiles,
}

impl Room {
    pub(super) fn hold() -> Self {
        let code = LockedFiles::lock();
        // What gives memory back has run then.
        drop(touched());
        Self { _memory: touched(), _code: code }
    }
}

fn touched() -> Option<MmapRegion> {
    let region = MmapRegion::new(BYTES).ok()?;
    let slice = region.get_slice(0, BYTES).ok()?;
    for offset in (0..BYTES).step_by(PAGE) {
        slice.write_obj(1_u8, offset).ok()?;
    }
    Some(region)
}

/// Code and constants, of libraries too, of which the pages that are in memory stay there.
#[derive(Debug)]
struct LockedFiles(Vec<(usize, usize)>);

impl LockedFiles {
    fn lock() -> Self {
        let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
        let mut ranges: Vec<_> = maps.lines().filter_map(read_only_file).collect();
        // SAFETY: locking changes nothing about what is there, whatever that is; pages that are not there are not read.
        ranges.retain(|&(start, length)| unsafe { mlock_with(pointer(start), length, MlockFlags::ONFAULT) }.is_ok());
        Self(ranges)
    }
}

impl Drop for LockedFiles {
    fn drop(&mut self) {
        for &(start, length) in &self.0 {
            // SAFETY: as above. These are ours: nothing else in this process locks files that are mapped to be read.
            let _ = unsafe { munlock(pointer(start), length) };
        }
    }
}

/// Start and length of a private mapping of a file that cannot be written to; a line of proc_pid_maps(5).
fn read_only_file(line: &str) -> Option<(usize, usize)> {
    let mut fields = line.split_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let access = fields.next()?;
    let path = fields.nth(3)?;
    if access.contains('w') || !access.ends_with('p') || !path.starts_with('/') {
        return None;
    }
    let start = usize::from_str_radix(start, 16).ok()?;
    let end = usize::from_str_radix(end, 16).ok()?;
    Some((start, end.checked_sub(start)?))
}

fn pointer(address: usize) -> *mut c_void {
    ptr::with_exposed_provenance_mut(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_only_file_takes_code_and_constants_and_nothing_else() {
        let code = "55d0c0000000-55d0c0200000 r-xp 00010000 08:01 42      /usr/bin/secretvmm";
        assert_eq!(read_only_file(code), Some((0x55d0_c000_0000, 0x20_0000)));
        assert!(read_only_file("7f0000000000-7f0000001000 r--p 00000000 08:01 43   /lib/libc.so.6").is_some());
        for line in [
            "7f0000000000-7f0000200000 rw-s 00000000 00:0d 77   /secretmem (deleted)",
            "7f0000001000-7f0000002000 rw-p 00001000 08:01 43   /lib/libc.so.6",
            "7ffd00000000-7ffd00002000 r-xp 00000000 00:00 0    [vdso]",
            "7f0000003000-7f0000004000 r--p 00000000 00:00 0 ",
            "no line",
        ] {
            assert_eq!(read_only_file(line), None, "{line}");
        }
    }

    #[test]
    fn room_is_locked_while_it_is_held() {
        let before = locked();
        let room = Room::hold();
        assert!(locked() > before);
        drop(room);
        assert_eq!(locked(), before);
    }

    /// VmLck of proc_pid_status(5), as it stands there.
    fn locked() -> u64 {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmLck:")).unwrap_or_default();
        line.trim().trim_end_matches(" kB").parse().unwrap_or_default()
    }
}
