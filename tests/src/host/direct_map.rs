// SPDX-License-Identifier: Apache-2.0
//! The kernel's account of its direct map. It shows fragmentation and nothing else: a direct map without splits may
//! still map every page.

use std::fs;

use anyhow::{Context, Result};

/// The direct map at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirectMap {
    /// KiB mapped by 4 KiB entries.
    pub kib_4k: u64,
    /// KiB mapped by 2 MiB entries.
    pub kib_2m: u64,
    /// KiB mapped by 1 GiB entries.
    pub kib_1g: u64,
    /// 2 MiB entries split into 4 KiB ones since the host started.
    pub splits_2m: u64,
    /// 1 GiB entries split into 2 MiB ones since the host started.
    pub splits_1g: u64,
}

impl DirectMap {
    /// Reads `/proc/meminfo` and `/proc/vmstat`. A size that the CPU does not have is 0.
    ///
    /// # Errors
    /// They cannot be read, or the kernel counts no splits (older than 5.13, or without `VM_EVENT_COUNTERS`).
    pub fn now() -> Result<Self> {
        let meminfo = fs::read_to_string("/proc/meminfo").context("Cannot read /proc/meminfo")?;
        let vmstat = fs::read_to_string("/proc/vmstat").context("Cannot read /proc/vmstat")?;
        let size = |key| value(&meminfo, key).unwrap_or(0);
        let splits = |key| value(&vmstat, key).with_context(|| format!("No {key} in /proc/vmstat"));
        Ok(DirectMap {
            kib_4k: size("DirectMap4k:"),
            kib_2m: size("DirectMap2M:"),
            kib_1g: size("DirectMap1G:"),
            splits_2m: splits("direct_map_level2_splits")?,
            splits_1g: splits("direct_map_level3_splits")?,
        })
    }
}

/// A line of `/proc/meminfo` in bytes, such as `SecretPoolTotal:`; None if this kernel has no such line.
///
/// # Errors
/// `/proc/meminfo` cannot be read.
pub fn meminfo_bytes(key: &str) -> Result<Option<u64>> {
    let meminfo = fs::read_to_string("/proc/meminfo").context("Cannot read /proc/meminfo")?;
    Ok(value(&meminfo, key).map(|kib| kib * 1024))
}

/// The number after `key` at the start of a line.
fn value(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        (words.next() == Some(key)).then(|| words.next()?.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_wants_the_whole_key() {
        let text = "DirectMap4k:      108328 kB\nDirectMap2M:     4085760 kB\nsplits 7\n";
        assert_eq!(value(text, "DirectMap2M:"), Some(4_085_760));
        assert_eq!(value(text, "splits"), Some(7));
        assert_eq!(value(text, "DirectMap"), None);
    }
}
