// SPDX-License-Identifier: Apache-2.0
//! What kind of machine the nested host is.

/// The machine that the nested host is.
#[derive(clap::Args, Clone)]
pub(crate) struct MachineArgs {
    /// Its memory, taken from this machine as it is used.
    #[arg(long, default_value = "6G", value_parser = parse_memory)]
    pub(crate) mem: String,
    /// Its CPUs. Emulated, they all run on one CPU of this machine, in turn.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=32))]
    pub(crate) smp: u32,
    /// Its NUMA nodes: the memory is shared out, the CPUs are all on the first.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4))]
    pub(crate) nodes: u32,
    /// Words to add to its kernel command line.
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    pub(crate) append: String,
    /// Count instructions as time: the same run gives the same figures.
    #[arg(long)]
    pub(crate) icount: bool,
    /// An emulated CPU with page tables of five levels.
    #[arg(long)]
    pub(crate) la57: bool,
    /// An emulated IOMMU, and behind it a device that copies memory on order
    /// (QEMU's edu), for iommufd and VFIO.
    #[arg(long)]
    pub(crate) dma: bool,
    /// Its memory is full of pages from before, as after a reset. With one node.
    #[arg(long, conflicts_with = "nodes")]
    pub(crate) stale: bool,
}

impl Default for MachineArgs {
    fn default() -> Self {
        Self {
            mem: "6G".into(),
            smp: 1,
            nodes: 1,
            append: String::new(),
            icount: false,
            la57: false,
            dma: false,
            stale: false,
        }
    }
}

impl MachineArgs {
    /// Its memory in MiB.
    pub(super) fn mib(&self) -> u64 {
        match self.mem.strip_suffix('G') {
            Some(number) => number.parse().unwrap_or(0) * 1024,
            None => self.mem.trim_end_matches('M').parse().unwrap_or(0),
        }
    }
}

/// QEMU's sizes: a number with M or G.
fn parse_memory(text: &str) -> Result<String, String> {
    let valid = text.strip_suffix(['M', 'G']).and_then(|number| number.parse::<u32>().ok()).is_some_and(|n| n > 0);
    if valid { Ok(text.to_owned()) } else { Err("must be a number with M or G, such as 6G".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_memory_wants_a_number_and_a_unit() {
        assert!(parse_memory("6G").is_ok() && parse_memory("512M").is_ok());
        for bad in ["", "G", "0G", "6", "-1G", "6T", "6G,maxmem=8G"] {
            assert!(parse_memory(bad).is_err(), "{bad}");
        }
    }
}
