// SPDX-License-Identifier: Apache-2.0
//! `/machine-config`: processors and memory.

use serde::{Deserialize, Deserializer, Serialize};

use super::bounds::{within, within_or_null};

/// The most vCPUs a VM can have.
pub const MAX_VCPUS: u8 = 32;

/// The most memory a VM can have, in MiB: 64 TiB, as much as 46 bits address.
pub const MAX_MEM_SIZE_MIB: u64 = 1 << 26;

/// Number of vCPUs, amount of memory, and what the memory is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct MachineConfig {
    /// vCPUs, 1 to 32.
    #[serde(deserialize_with = "vcpu_count")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 32))]
    pub vcpu_count: u8,
    /// Guest memory in MiB; an odd number is rounded up to the next multiple of 2.
    #[serde(deserialize_with = "mem_size_mib")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 67_108_864))]
    pub mem_size_mib: u64,
    /// Show the vCPUs to the guest as threads of cores.
    #[serde(default)]
    pub smt: bool,
    /// Which processor the guest's vCPUs resemble. Deprecated.
    #[serde(default)]
    pub cpu_template: Option<CpuTemplate>,
    /// Note which pages are written, for snapshots.
    #[serde(default)]
    pub track_dirty_pages: bool,
    /// The pages that guest memory is made of.
    #[serde(default)]
    pub huge_pages: HugePages,
    /// Our own addition to Firecracker's fields.
    #[serde(default)]
    pub memory_backend: MemoryBackend,
    /// Our own addition: where secret pages come from.
    #[serde(default)]
    pub memory_pool: MemoryPool,
    /// Our own addition: when secret pages are allocated.
    #[serde(default)]
    pub memory_populate: MemoryPopulate,
}

impl MachineConfig {
    /// The machine with the changes of `PATCH /machine-config`.
    pub fn updated(&self, update: &MachineConfigUpdate) -> Self {
        Self {
            vcpu_count: update.vcpu_count.unwrap_or(self.vcpu_count),
            mem_size_mib: update.mem_size_mib.unwrap_or(self.mem_size_mib),
            smt: update.smt.unwrap_or(self.smt),
            cpu_template: update.cpu_template.or(self.cpu_template),
            track_dirty_pages: update.track_dirty_pages.unwrap_or(self.track_dirty_pages),
            huge_pages: update.huge_pages.unwrap_or(self.huge_pages),
            memory_backend: update.memory_backend.unwrap_or(self.memory_backend),
            memory_pool: update.memory_pool.unwrap_or(self.memory_pool),
            memory_populate: update.memory_populate.unwrap_or(self.memory_populate),
        }
    }
}

/// What `PATCH /machine-config` can change: the fields of [`MachineConfig`], each of which may be
/// absent, but not all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(remote = "Self", deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct MachineConfigUpdate {
    #[serde(deserialize_with = "vcpu_count_or_null")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 32))]
    pub vcpu_count: Option<u8>,
    #[serde(deserialize_with = "mem_size_mib_or_null")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 67_108_864))]
    pub mem_size_mib: Option<u64>,
    pub smt: Option<bool>,
    pub cpu_template: Option<CpuTemplate>,
    pub track_dirty_pages: Option<bool>,
    pub huge_pages: Option<HugePages>,
    pub memory_backend: Option<MemoryBackend>,
    pub memory_pool: Option<MemoryPool>,
    pub memory_populate: Option<MemoryPopulate>,
}

/// Firecracker's names of processors that vCPUs can resemble.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[allow(missing_docs)]
pub enum CpuTemplate {
    C3,
    T2,
    T2S,
    T2CL,
    T2A,
    V1N1,
    /// The host's own processor.
    None,
}

/// What guest memory is made of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum HugePages {
    /// 2 MiB pages where there are any, else 4 KiB pages.
    #[default]
    None,
    /// The same.
    Transparent,
    /// 2 MiB pages or an error.
    #[serde(rename = "2M")]
    Require2M,
}

/// Where secret pages come from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum MemoryPool {
    /// The pool reserved at boot while it lasts, if this user may, else the host's free memory.
    #[default]
    Auto,
    /// The pool or an error.
    Boot,
}

/// When secret pages are allocated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum MemoryPopulate {
    /// Beside the running guest, which gets first what it touches. As `all` with `memory_pool` `boot` or
    /// `huge_pages` `2M`, which may be an error, and with `--attestation-key`, as evidence tells of all pages.
    #[default]
    Background,
    /// All of them before the guest runs; a lack of memory or a limit is an error then.
    All,
    /// When the guest touches them; the VM ends if there are none by then.
    Touch,
}

fn vcpu_count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u8, D::Error> {
    within(deserializer, 1..=MAX_VCPUS)
}

fn vcpu_count_or_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u8>, D::Error> {
    within_or_null(deserializer, 1..=MAX_VCPUS)
}

fn mem_size_mib<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    within(deserializer, 1..=MAX_MEM_SIZE_MIB)
}

fn mem_size_mib_or_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    within_or_null(deserializer, 1..=MAX_MEM_SIZE_MIB)
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
            r#"{"vcpu_count": 33, "mem_size_mib": 512}"#,
            r#"{"vcpu_count": 0, "mem_size_mib": 512}"#,
            r#"{"vcpu_count": 2, "mem_size_mib": 0}"#,
            r#"{"vcpu_count": 2, "mem_size_mib": -1}"#,
            r#"{"vcpu_count": 2, "mem_size_mib": 512, "huge_pages": "1G"}"#,
            r#"{"vcpu_count": 2, "mem_size_mib": 512, "memory_backend": "Secret"}"#,
        ] {
            assert!(serde_json::from_str::<MachineConfig>(text).is_err(), "{text}");
        }
    }
}
