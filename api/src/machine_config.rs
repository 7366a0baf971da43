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
    }

    #[test]
    fn machine_config_wrong_types_and_names_are_refused() {
        for text in [
            r#"{"vcpu_count": "2", "mem_size_mib": 512}"#,
            r#"{"vcpu_count": 300, "mem_size_mib": 512}"#,
            r#"{"vcpu_count": 2, "mem_size_mib": -1}"#,
            r#"{"vcpu_count": 2, "mem_size_mib": 512, "huge_pages": "2M"}"#,
            r#"{"vcpu_count": 2, "mem_size_mib": 512, "memory_backend": "Secret"}"#,
        ] {
            assert!(serde_json::from_str::<MachineConfig>(text).is_err(), "{text}");
        }
    }
}
