// SPDX-License-Identifier: Apache-2.0
//! Which node a frame is on, as `/proc/zoneinfo` tells, and the calls that put memory on a node or move it there.
#![allow(unsafe_code)] // Four calls that nix does not wrap.

use std::fs;

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use secretvmm_canary::PAGE_SIZE;

use crate::area::Area;

/// include/uapi/linux/mempolicy.h.
const MPOL_DEFAULT: libc::c_long = 0;
const MPOL_BIND: libc::c_long = 2;
const MPOL_MF_MOVE: libc::c_long = 2;
/// Nodes that a mask of one word has room for; the kernel takes one more and looks at one less.
const MASK_BITS: libc::c_long = 64;

/// The host's zones: first frame, and node.
pub struct Nodes(Vec<(u64, u32)>);

impl Nodes {
    /// Reads `/proc/zoneinfo`.
    ///
    /// # Errors
    /// It cannot be read, or shows no zone.
    pub fn read() -> Result<Self> {
        let text = fs::read_to_string("/proc/zoneinfo").context("Cannot read /proc/zoneinfo")?;
        let zones = parse(&text);
        ensure!(!zones.is_empty(), "/proc/zoneinfo shows no zone with memory");
        Ok(Nodes(zones))
    }

    /// The node of a frame: that of the last zone that begins before it.
    pub fn of_frame(&self, pfn: u64) -> Option<u32> {
        let before = self.0.iter().filter(|(start, _)| *start <= pfn);
        before.max_by_key(|(start, _)| *start).map(|(_, node)| *node)
    }

    /// How many nodes have memory.
    pub fn count(&self) -> usize {
        let mut nodes: Vec<u32> = self.0.iter().map(|(_, node)| *node).collect();
        nodes.sort_unstable();
        nodes.dedup();
        nodes.len()
    }
}

/// What this thread allocates while `work` runs comes from this node only.
///
/// # Errors
/// The kernel has no such node, or `work` failed.
pub fn on_node<T>(node: u32, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let mask = 1u64 << node;
    // SAFETY: the kernel reads one word, which lives.
    let set = unsafe { libc::syscall(libc::SYS_set_mempolicy, MPOL_BIND, &raw const mask, MASK_BITS) };
    Errno::result(set).with_context(|| format!("Cannot allocate on node {node}"))?;
    let done = work();
    // SAFETY: no mask is needed to go back to the default.
    let reset = unsafe { libc::syscall(libc::SYS_set_mempolicy, MPOL_DEFAULT, 0, 0) };
    Errno::result(reset).context("Cannot allocate as before")?;
    done
}

/// Asks for every page of the area to be moved to a node, in each way that there is: move_pages(2), mbind(2), and
/// migrate_pages(2), which means all of this process.
pub fn try_to_move(area: &Area, from: u32, to: u32) {
    let (count, node) = (area.length() / PAGE_SIZE, to.cast_signed());
    let pages = (0..count).map(|page| area.address() + (page * PAGE_SIZE) as u64).collect::<Vec<_>>();
    let (nodes, mut status) = (vec![node; count], vec![0i32; count]);
    let (from, to) = (1u64 << from, 1u64 << to);
    // What comes of it shows in the frames.
    // SAFETY: the three arrays have `count` entries; the pages are used by address only.
    unsafe {
        libc::syscall(libc::SYS_move_pages, 0, count, pages.as_ptr(), nodes.as_ptr(), status.as_mut_ptr(), MPOL_MF_MOVE)
    };
    let (start, length) = (area.address(), area.length());
    // SAFETY: the kernel reads one word, which lives.
    unsafe { libc::syscall(libc::SYS_mbind, start, length, MPOL_BIND, &raw const to, MASK_BITS, MPOL_MF_MOVE) };
    // SAFETY: as above, two words.
    unsafe { libc::syscall(libc::SYS_migrate_pages, 0, MASK_BITS, &raw const from, &raw const to) };
}

/// Zones that have memory: `Node 0, zone   Normal`, later `spanned  …` and `start_pfn: …`.
fn parse(text: &str) -> Vec<(u64, u32)> {
    let (mut zones, mut node, mut spanned) = (Vec::new(), 0, 0);
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        match (words.next(), words.next()) {
            (Some("Node"), Some(number)) => node = number.trim_end_matches(',').parse().unwrap_or(0),
            (Some("spanned"), Some(pages)) => spanned = pages.parse().unwrap_or(0),
            (Some("start_pfn:"), Some(first)) if spanned > 0 => zones.extend(first.parse().ok().map(|pfn| (pfn, node))),
            _ => {}
        }
    }
    zones
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_frame_is_the_node_of_its_zone_and_empty_zones_do_not_count() {
        let text = "Node 0, zone      DMA\n        spanned  4095\n  start_pfn:           1\n\
                    Node 0, zone  Movable\n        spanned  0\n  start_pfn:           0\n\
                    Node 1, zone   Normal\n        spanned  99\n  start_pfn:           1048576\n";
        let nodes = Nodes(parse(text));
        assert_eq!((nodes.of_frame(0), nodes.of_frame(4000), nodes.of_frame(1 << 21)), (None, Some(0), Some(1)));
        assert_eq!(nodes.count(), 2);
    }
}
