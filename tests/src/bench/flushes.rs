// SPDX-License-Identifier: Apache-2.0
//! Counts TLB flushes that the kernel sends to all CPUs, by kprobes on its two functions for that.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

const TRACING: &str = "/sys/kernel/tracing";
/// Every flush of kernel addresses on all CPUs begins in one of them (arch/x86/mm/tlb.c).
const FUNCTIONS: [&str; 2] = ["flush_tlb_all", "flush_tlb_kernel_range"];
/// Names our probes.
const GROUP: &str = "secretvmm_bench";

/// The probes, until dropped.
pub struct Flushes(());

impl Flushes {
    /// Begins to count.
    ///
    /// # Errors
    /// The kernel has no kprobe events (`CONFIG_KPROBE_EVENTS`) or not those functions.
    pub fn watch() -> Result<Self> {
        let flushes = Flushes(());
        // The hits are what is wanted, not a record of each.
        write("tracing_on", "0")?;
        for function in FUNCTIONS {
            append("kprobe_events", &format!("p:{GROUP}/{function} {function}\n"))?;
        }
        write(&format!("events/{GROUP}/enable"), "1")?;
        Ok(flushes)
    }

    /// Flushes since the beginning.
    ///
    /// # Errors
    /// The kernel's count cannot be read.
    pub fn count(&self) -> Result<u64> {
        let path = Path::new(TRACING).join("kprobe_profile");
        let profile = fs::read_to_string(&path).with_context(|| format!("Cannot read {}", path.display()))?;
        let counts: Vec<u64> = FUNCTIONS.iter().filter_map(|function| hits(&profile, function)).collect();
        ensure!(counts.len() == FUNCTIONS.len(), "{} lacks our probes:\n{profile}", path.display());
        Ok(counts.iter().sum())
    }
}

impl Drop for Flushes {
    fn drop(&mut self) {
        // The nested host ends after the measurement; probes left behind only cost time until then.
        let _ = write(&format!("events/{GROUP}/enable"), "0");
        let _ = FUNCTIONS.map(|function| append("kprobe_events", &format!("-:{GROUP}/{function}\n")));
    }
}

/// Hits of a probe, those counted while it was busy included: `name hits missed`.
fn hits(profile: &str, function: &str) -> Option<u64> {
    let words = profile.lines().map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
    words.filter(|words| words.first() == Some(&function)).find_map(|words| match words[..] {
        [_, hits, missed] => Some(hits.parse::<u64>().ok()? + missed.parse::<u64>().ok()?),
        _ => None,
    })
}

fn write(file: &str, text: &str) -> Result<()> {
    let path = Path::new(TRACING).join(file);
    fs::write(&path, text).with_context(|| format!("Cannot write {}", path.display()))
}

/// As [`write`], but opens without O_TRUNC, which would remove all probes.
fn append(file: &str, text: &str) -> Result<()> {
    let path = Path::new(TRACING).join(file);
    let mut file = fs::File::options().append(true).open(&path).with_context(|| format!("No {}", path.display()))?;
    std::io::Write::write_all(&mut file, text.as_bytes()).with_context(|| format!("Cannot set the probe {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hits_adds_missed_ones_and_knows_its_line() {
        let profile = "  flush_tlb_all_x      9      0\n  flush_tlb_all      41      2\n";
        assert_eq!(hits(profile, "flush_tlb_all"), Some(43));
        assert_eq!(hits(profile, "flush_tlb_kernel_range"), None);
    }
}
