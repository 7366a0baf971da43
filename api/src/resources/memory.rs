// SPDX-License-Identifier: Apache-2.0
//! `/memory`: what guest memory is made of, and what the kernel says about it now. Our own.

use serde::{Deserialize, Serialize};

use super::MemoryBackend;

/// The answer to `GET /memory`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct MemoryInfo {
    /// What guest memory is made of.
    pub backing: MemoryBackend,
    /// The memslots of guest memory.
    pub slots: Vec<MemorySlot>,
    /// What the kernel says about it at this moment; null for shared memory.
    pub kernel: Option<KernelMemory>,
}

/// One memslot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct MemorySlot {
    /// Guest physical address of its first byte.
    pub gpa: u64,
    /// Its size in bytes.
    pub size: u64,
}

/// Counts of 4 KiB pages from the fdinfo of guest memory's descriptor, of which the kernel looks up
/// `direct_mapped` page by page when asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct KernelMemory {
    /// Pages allocated.
    pub pages: u64,
    /// Pages that the kernel's direct map reaches; 0 as long as the memory is hidden.
    pub direct_mapped: u64,
    /// Pages that KVM has mapped elsewhere in the kernel, on purpose.
    pub aliases: u64,
    /// Pages that are part of 2 MiB ones.
    pub huge: u64,
    /// Pages from the pool reserved at boot.
    pub pool: u64,
}
