//! The one description of a VM, wherever it came from.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use secretvmm_api::{HugePages, MachineConfig, MemoryBackend, MemoryPool, VmConfigFile};

use crate::memory::{Huge, Pool, RamKind, SecretOptions, layout};

/// Used when no command line is given.
pub const DEFAULT_CMDLINE: &str = "console=ttyS0 8250.nr_uarts=1 reboot=k panic=-1";
/// Used when no memory size is given, in bytes.
pub const DEFAULT_MEMORY: u64 = 512 << 20;
/// The most vCPUs a VM can have.
pub const MAX_CPUS: u8 = 32;

/// Everything that makes up one VM. Paths are the host's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmConfig {
    /// A bzImage or a PVH vmlinux.
    pub kernel: PathBuf,
    /// An initial RAM disk.
    pub initrd: Option<PathBuf>,
    /// The kernel command line.
    pub cmdline: String,
    /// Guest RAM in bytes, a multiple of 2 MiB (see [`round_memory`]).
    pub memory: u64,
    /// vCPUs.
    pub cpus: u8,
    /// What guest RAM is made of.
    pub ram: RamKind,
}

/// A configuration that makes no sense on any host.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Fewer than 1 or more than [`MAX_CPUS`].
    #[error("A VM has 1 to {MAX_CPUS} vCPUs, not {0}")]
    Cpus(u8),
    /// Less than the smallest guest.
    #[error("A VM needs at least {} MiB of memory, not {} KiB", layout::RAM_MIN >> 20, .0 >> 10)]
    MemoryTooSmall(u64),
    /// More than an address can say.
    #[error("{0} MiB of memory are more than any machine has")]
    MemoryTooLarge(u64),
    /// 2 MiB pages or the pool for memory that is not hidden.
    #[error("Pages of 2 MiB and of the boot pool are for hidden memory; shared memory has neither")]
    SharedPages,
    /// 4 KiB pages from the pool.
    #[error("The boot pool has pages of 2 MiB only; leave out huge=off or pool=boot")]
    SmallPoolPages,
    /// The configuration file cannot be read.
    #[error("Configuration file {} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The configuration file is no valid JSON, or says something unknown.
    #[error("Configuration file {} is not valid", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Line, column and reason.
        source: serde_json::Error,
    },
}

impl VmConfig {
    /// A VM with this kernel and defaults for the rest.
    pub fn new(kernel: PathBuf) -> Self {
        Self {
            kernel,
            initrd: None,
            cmdline: DEFAULT_CMDLINE.to_owned(),
            memory: DEFAULT_MEMORY,
            cpus: 1,
            ram: RamKind::default(),
        }
    }

    /// Reads `--config-file`.
    pub fn from_file(path: &Path) -> Result<Self, Error> {
        let text = read(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        let file = serde_json::from_str(&text).map_err(|source| Error::Parse { path: path.to_owned(), source })?;
        Self::from_resources(file)
    }

    fn from_resources(file: VmConfigFile) -> Result<Self, Error> {
        let mut config = Self::new(file.boot_source.kernel_image_path);
        config.initrd = file.boot_source.initrd_path;
        config.cmdline = file.boot_source.boot_args.unwrap_or(config.cmdline);
        if let Some(machine) = file.machine_config {
            let mib = machine.mem_size_mib;
            config.memory = mib.checked_mul(1 << 20).and_then(round_memory).ok_or(Error::MemoryTooLarge(mib))?;
            config.cpus = machine.vcpu_count;
            config.ram = ram_kind(&machine)?;
        }
        Ok(config)
    }

    /// Checks what can be checked without asking the host.
    pub fn validate(&self) -> Result<(), Error> {
        if !(1..=MAX_CPUS).contains(&self.cpus) {
            return Err(Error::Cpus(self.cpus));
        }
        if self.memory < layout::RAM_MIN {
            return Err(Error::MemoryTooSmall(self.memory));
        }
        if self.memory > 1 << 46 {
            return Err(Error::MemoryTooLarge(self.memory >> 20));
        }
        if self.ram == RamKind::Secret(SecretOptions { huge: Huge::Off, pool: Pool::Boot }) {
            return Err(Error::SmallPoolPages);
        }
        Ok(())
    }
}

/// What the machine's memory is made of.
fn ram_kind(machine: &MachineConfig) -> Result<RamKind, Error> {
    let huge = match machine.huge_pages {
        HugePages::None => Huge::Auto,
        HugePages::Require2M => Huge::Require,
    };
    let pool = match machine.memory_pool {
        MemoryPool::Auto => Pool::Auto,
        MemoryPool::Boot => Pool::Boot,
    };
    match (machine.memory_backend, SecretOptions { huge, pool }) {
        (MemoryBackend::Secret, options) => Ok(RamKind::Secret(options)),
        (MemoryBackend::Shared, options) if options == SecretOptions::default() => Ok(RamKind::Shared),
        (MemoryBackend::Shared, _) => Err(Error::SharedPages),
    }
}

/// Reads a configuration file, of which a sane one has a few hundred bytes.
fn read(path: &Path) -> io::Result<String> {
    const LIMIT: u64 = 1 << 20;
    let mut text = String::new();
    File::open(path)?.take(LIMIT + 1).read_to_string(&mut text)?;
    if text.len() as u64 > LIMIT {
        return Err(io::Error::other("it is larger than 1 MiB"));
    }
    Ok(text)
}

/// Rounds a size in bytes up to whole 2 MiB, so that all of it can be mapped by 2M leaves. None if
/// that overflows.
pub fn round_memory(bytes: u64) -> Option<u64> {
    bytes.checked_next_multiple_of(layout::RAM_ALIGN)
}

/// Parses a size such as `512M` or `2G` (K, M and G are powers of 1024) and rounds it up to a
/// multiple of 2 MiB.
pub fn parse_memory(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text.strip_prefix(digits) {
        Some("K" | "k") => 10,
        Some("M" | "m") => 20,
        Some("G" | "g") => 30,
        _ => return Err("give a number with K, M or G, such as 512M or 2G".to_owned()),
    };
    let count: u64 = digits.parse().map_err(|_| "give a whole number with K, M or G, such as 512M".to_owned())?;
    let bytes = count.checked_mul(1 << shift).and_then(round_memory);
    bytes.ok_or_else(|| "that is more than any machine has".to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn parse_memory_knows_suffixes_and_rounds_up() {
        assert_eq!(parse_memory("512M"), Ok(512 << 20));
        assert_eq!(parse_memory("2g"), Ok(2 << 30));
        assert_eq!(parse_memory("32769K"), Ok(34 << 20));
        assert_eq!(parse_memory("33M"), Ok(34 << 20));
        for text in ["", "2", "2T", "-1M", "M", "1.5G", "2 G", "99999999999G", "18446744073709551615K"] {
            assert!(parse_memory(text).is_err(), "{text}");
        }
    }

    #[test]
    fn validate_limits() {
        let mut config = VmConfig::new("k".into());
        assert!(config.validate().is_ok());
        config.cpus = 33;
        assert!(matches!(config.validate(), Err(Error::Cpus(33))));
        config.cpus = 0;
        assert!(config.validate().is_err());
        config.cpus = 32;
        config.memory = layout::RAM_MIN - 1;
        assert!(matches!(config.validate(), Err(Error::MemoryTooSmall(_))));
        config.memory = u64::MAX;
        assert!(matches!(config.validate(), Err(Error::MemoryTooLarge(_))));
    }

    #[test]
    fn validate_small_pages_from_the_pool_are_refused() {
        let ram = |huge, pool| {
            let ram = RamKind::Secret(SecretOptions { huge, pool });
            VmConfig { ram, ..VmConfig::new("k".into()) }.validate()
        };
        assert!(matches!(ram(Huge::Off, Pool::Boot), Err(Error::SmallPoolPages)));
        assert!(ram(Huge::Off, Pool::Auto).is_ok());
        assert!(ram(Huge::Require, Pool::Boot).is_ok());
    }

    #[test]
    fn from_resources_fills_everything_and_defaults() {
        let text = r#"{"boot-source": {"kernel_image_path": "/k", "initrd_path": "/i", "boot_args": "quiet"},
                       "machine-config": {"vcpu_count": 4, "mem_size_mib": 65, "memory_backend": "shared"}}"#;
        let config = VmConfig::from_resources(serde_json::from_str(text).unwrap()).unwrap();
        let expected = VmConfig { initrd: Some("/i".into()), cmdline: "quiet".into(), ..VmConfig::new("/k".into()) };
        assert_eq!(config, VmConfig { memory: 66 << 20, cpus: 4, ram: RamKind::Shared, ..expected });
        let text = r#"{"boot-source": {"kernel_image_path": "/k"},
                       "machine-config": {"vcpu_count": 1, "mem_size_mib": 512, "huge_pages": "2M", "memory_pool": "boot"}}"#;
        let config = VmConfig::from_resources(serde_json::from_str(text).unwrap()).unwrap();
        assert_eq!(config.ram, RamKind::Secret(SecretOptions { huge: Huge::Require, pool: Pool::Boot }));
        let shared = text.replace("\"huge_pages\"", "\"memory_backend\": \"shared\", \"huge_pages\"");
        assert!(matches!(VmConfig::from_resources(serde_json::from_str(&shared).unwrap()), Err(Error::SharedPages)));
        let text = r#"{"boot-source": {"kernel_image_path": "/k"}}"#;
        let config = VmConfig::from_resources(serde_json::from_str(text).unwrap()).unwrap();
        assert_eq!(config, VmConfig::new("/k".into()));
    }
}
