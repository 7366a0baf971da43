// SPDX-License-Identifier: Apache-2.0
//! What the kernel says of a secret file at this moment.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// The lines that the secretvmm series adds to the fdinfo of a `memfd_secret` descriptor (mm/secretmem.c); counts of
/// 4 KiB pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FdInfo {
    /// The mode: `SECRETMEM_*` flags.
    pub flags: u64,
    /// Pages that the file holds.
    pub pages: u64,
    /// Of these, in 2 MiB pages.
    pub huge: u64,
    /// Of these, from the pool reserved at boot.
    pub pool: u64,
    /// Pages of the file that the kernel's direct map maps, found by a walk at the moment of reading.
    pub direct_mapped: u64,
    /// Pages of the file that KVM maps elsewhere in the kernel at this moment (kvm-clock, nested guests).
    pub aliases: u64,
}

impl FdInfo {
    /// Asks the kernel about one of this process's descriptors. None if it is no secret memory, or if the kernel
    /// lacks the series.
    ///
    /// # Errors
    /// /proc is not there.
    pub fn of(file: &impl AsFd) -> io::Result<Option<Self>> {
        let path = format!("/proc/self/fdinfo/{}", file.as_fd().as_raw_fd());
        Ok(Self::parse(&fs::read_to_string(path)?))
    }

    /// Reads the text of a file in /proc/PID/fdinfo.
    pub fn parse(text: &str) -> Option<Self> {
        let value = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
            match line.trim().strip_prefix("0x") {
                Some(digits) => u64::from_str_radix(digits, 16).ok(),
                None => line.trim().parse().ok(),
            }
        };
        Some(FdInfo {
            flags: value("secretmem_flags")?,
            pages: value("secretmem_pages")?,
            huge: value("secretmem_huge")?,
            pool: value("secretmem_pool")?,
            direct_mapped: value("secretmem_direct_mapped")?,
            aliases: value("secretmem_aliases")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_secret_descriptor_reads_every_line() {
        let text = "pos:\t0\nflags:\t02100002\nsecretmem_flags:\t0x5\nsecretmem_pages:\t513\nsecretmem_huge:\t512\n\
                    secretmem_pool:\t0\nsecretmem_direct_mapped:\t0\nsecretmem_aliases:\t1\n";
        let expected = FdInfo { flags: 5, pages: 513, huge: 512, pool: 0, direct_mapped: 0, aliases: 1 };
        assert_eq!(FdInfo::parse(text), Some(expected));
    }

    #[test]
    fn parse_other_descriptor_is_none() {
        assert_eq!(FdInfo::parse("pos:\t0\nflags:\t02100002\n"), None);
    }
}
