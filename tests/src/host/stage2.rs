// SPDX-License-Identifier: Apache-2.0
//! The pages that KVM's own page tables (stage 2) map for a VM.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// Entries of each size, from KVM's statistics (Documentation/virt/kvm/api.rst, KVM_GET_STATS_FD; in debugfs).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stage2 {
    /// 4 KiB entries.
    pub pages_4k: u64,
    /// 2 MiB entries.
    pub pages_2m: u64,
    /// 1 GiB entries.
    pub pages_1g: u64,
}

impl Stage2 {
    /// Those of the process's one VM.
    ///
    /// # Errors
    /// The process has no VM, or debugfs is not mounted.
    pub fn of_process(pid: u32) -> Result<Self> {
        let folder = "/sys/kernel/debug/kvm";
        for entry in fs::read_dir(folder).with_context(|| format!("Cannot list {folder}"))? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(&format!("{pid}-")) {
                return Self::read(&entry.path());
            }
        }
        bail!("KVM has no VM of process {pid}")
    }

    fn read(folder: &Path) -> Result<Self> {
        let count = |name| -> Result<u64> {
            let text = fs::read_to_string(folder.join(name)).with_context(|| format!("KVM has no statistic {name}"))?;
            text.trim().parse().with_context(|| format!("{name} is no number: {text}"))
        };
        Ok(Stage2 { pages_4k: count("pages_4k")?, pages_2m: count("pages_2m")?, pages_1g: count("pages_1g")? })
    }

    /// Bytes mapped by entries of 2 MiB or more, in thousandths of all.
    pub fn large_permille(&self) -> u64 {
        let large = (self.pages_2m + self.pages_1g * 512) * 512;
        (large * 1000).checked_div(large + self.pages_4k).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_permille_counts_bytes_not_entries() {
        assert_eq!(Stage2 { pages_4k: 512, pages_2m: 1, pages_1g: 0 }.large_permille(), 500);
        assert_eq!(Stage2 { pages_4k: 0, pages_2m: 1, pages_1g: 0 }.large_permille(), 1000);
        assert_eq!(Stage2::default().large_permille(), 0);
    }
}
