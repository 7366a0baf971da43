//! What the kernel says of a process's secret memory, in `/proc/PID/fdinfo`.

use std::fs;

use anyhow::{Context, Result, bail};

/// The lines that the kernel series adds to the fdinfo of a `memfd_secret` descriptor; counts of 4 KiB pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SecretFdInfo {
    /// Pages that the file holds.
    pub pages: u64,
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
                sum = Some(sum.unwrap_or_default().plus(info));
            }
        }
        match sum {
            Some(info) => Ok(info),
            None => bail!("No descriptor of process {pid} is secret memory that this kernel reports on"),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let value = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
            line.trim().parse().ok()
        };
        Some(SecretFdInfo {
            pages: value("secretmem_pages")?,
            direct_mapped: value("secretmem_direct_mapped")?,
            aliases: value("secretmem_aliases")?,
        })
    }

    fn plus(self, other: Self) -> Self {
        SecretFdInfo {
            pages: self.pages + other.pages,
            direct_mapped: self.direct_mapped + other.direct_mapped,
            aliases: self.aliases + other.aliases,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_secret_descriptor_reads_all_three() {
        let text =
            "pos:\t0\nflags:\t02100002\nsecretmem_pages:\t512\nsecretmem_direct_mapped:\t0\nsecretmem_aliases:\t1\n";
        assert_eq!(SecretFdInfo::parse(text), Some(SecretFdInfo { pages: 512, direct_mapped: 0, aliases: 1 }));
    }

    #[test]
    fn parse_other_descriptor_is_none() {
        assert_eq!(SecretFdInfo::parse("pos:\t0\nflags:\t02100002\n"), None);
    }
}
