//! What the kernel says of a process's secret memory, in `/proc/PID/fdinfo`.

use std::fs::{self, File};
use std::os::fd::AsRawFd;

use anyhow::{Context, Result, bail};

/// The lines that the kernel series adds to the fdinfo of a `memfd_secret` descriptor; counts of 4 KiB pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SecretFdInfo {
    /// The mode: `SECRETMEM_*` flags that all the process's files have.
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

impl SecretFdInfo {
    /// The fdinfo of the process's secret memory, all its descriptors added up.
    ///
    /// # Errors
    /// The process is gone, or none of its descriptors is secret memory on a patched kernel.
    pub fn of_process(pid: u32) -> Result<Self> {
        let folder = format!("/proc/{pid}/fdinfo");
        let mut sum: Option<Self> = None;
        for entry in fs::read_dir(&folder).with_context(|| format!("Cannot list {folder}"))? {
            // A descriptor may close between listing and reading.
            let Ok(text) = fs::read_to_string(entry?.path()) else { continue };
            if let Some(info) = Self::parse(&text) {
                sum = Some(sum.map_or(info, |sum| sum.plus(info)));
            }
        }
        match sum {
            Some(info) => Ok(info),
            None => bail!("No descriptor of process {pid} is secret memory that this kernel reports on"),
        }
    }

    /// The fdinfo of one file of our own.
    ///
    /// # Errors
    /// It is no secret memory on a patched kernel.
    pub fn of_file(file: &File) -> Result<Self> {
        let path = format!("/proc/self/fdinfo/{}", file.as_raw_fd());
        let text = fs::read_to_string(&path).with_context(|| format!("Cannot read {path}"))?;
        Self::parse(&text).with_context(|| format!("No lines of secret memory: {text}"))
    }

    fn parse(text: &str) -> Option<Self> {
        let value = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
            match line.trim().strip_prefix("0x") {
                Some(digits) => u64::from_str_radix(digits, 16).ok(),
                None => line.trim().parse().ok(),
            }
        };
        Some(SecretFdInfo {
            flags: value("secretmem_flags")?,
            pages: value("secretmem_pages")?,
            huge: value("secretmem_huge")?,
            pool: value("secretmem_pool")?,
            direct_mapped: value("secretmem_direct_mapped")?,
            aliases: value("secretmem_aliases")?,
        })
    }

    fn plus(self, other: Self) -> Self {
        SecretFdInfo {
            flags: self.flags & other.flags,
            pages: self.pages + other.pages,
            huge: self.huge + other.huge,
            pool: self.pool + other.pool,
            direct_mapped: self.direct_mapped + other.direct_mapped,
            aliases: self.aliases + other.aliases,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_secret_descriptor_reads_every_line() {
        let text = "pos:\t0\nflags:\t02100002\nsecretmem_flags:\t0x5\nsecretmem_pages:\t513\nsecretmem_huge:\t512\n\
                    secretmem_pool:\t0\nsecretmem_direct_mapped:\t0\nsecretmem_aliases:\t1\n";
        let expected = SecretFdInfo { flags: 5, pages: 513, huge: 512, pool: 0, direct_mapped: 0, aliases: 1 };
        assert_eq!(SecretFdInfo::parse(text), Some(expected));
    }

    #[test]
    fn parse_other_descriptor_is_none() {
        assert_eq!(SecretFdInfo::parse("pos:\t0\nflags:\t02100002\n"), None);
    }
}
