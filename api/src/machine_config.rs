//! `/machine-config`: processors and memory.

use serde::{Deserialize, Serialize};

/// Number of vCPUs, amount of memory, and what the memory is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineConfig {
    /// vCPUs, 1 to 32.
    pub vcpu_count: u8,
    /// Guest memory in MiB; an odd number is rounded up to the next multiple of 2.
    pub mem_size_mib: u64,
    /// Our own addition to Firecracker's fields.
    #[serde(default)]
    pub memory_backend: MemoryBackend,
    /// The pages that guest memory is made of.
    #[serde(default)]
    pub huge_pages: HugePages,
    /// Our own addition: where secret pages come from.
    #[serde(default)]
    pub memory_pool: MemoryPool,
}

/// What guest memory is made of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemoryBackend {
    /// `memfd_secret(2)`: absent from the host kernel's direct map.
    #[default]
    Secret,
    /// Ordinary shared memory, which the host can read at will.
    Shared,
}

/// What size the pages of guest memory have. Firecracker's names; hidden memory has 2 MiB pages
/// by itself wherever it can, also with `None`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum HugePages {
    /// 2 MiB pages where there are any, else 4 KiB pages.
    #[default]
    None,
    /// 2 MiB pages or an error.
    #[serde(rename = "2M")]
    Require2M,
}

/// Where secret pages come from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemoryPool {
    /// The pool reserved at boot while it lasts, if this user may, else the host's free memory.
    #[default]
    Auto,
    /// The pool or an error.
    Boot,
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn machine_config_memory_is_secret_unless_said_otherwise() {
        let text = r#"{"vcpu_count": 2, "mem_size_mib": 512}"#;
        let machine: MachineConfig = serde_json::from_str(text).unwrap();
        assert_eq!(machine.memory_backend, MemoryBackend::Secret);
        let text = r#"{"vcpu_count": 2, "mem_size_mib": 512, "memory_backend": "shared"}"#;
        let machine: MachineConfig = serde_json::from_str(text).unwrap();
        assert_eq!(machine.memory_backend, MemoryBackend::Shared);
        assert_eq!((machine.huge_pages, machine.memory_pool), (HugePages::None, MemoryPool::Auto));
        let text = r#"{"vcpu_count": 2, "mem_size_mib": 512, "huge_pages": "2M", "memory_pool": "boot"}"#;
        let machine: MachineConfig = serde_json::from_str(text).unwrap();
        assert_eq!((machine.huge_pages, machine.memory_pool), (HugePages::Require2M, MemoryPool::Boot));
    }

    #[test]
    fn machine_config_wrong_types_and_names_are_refused() {
        for text in [
            r#"{"vcpu_count": "2", "mem_size_mib": 512}"#,
            r#"{"vcpu_count": 300, "mem_size_mib": 512}"#,
            r#"{"vcpu_count": 2, "mem_size_mib": -1}"#,
            r#"{"vcpu_count": 2, "mem_size_mib": 512, "huge_pages": "1G"}"#,
            r#"{"vcpu_count": 2, "mem_size_mib": 512, "memory_backend": "Secret"}"#,
        ] {
            assert!(serde_json::from_str::<MachineConfig>(text).is_err(), "{text}");
        }
    }
}
