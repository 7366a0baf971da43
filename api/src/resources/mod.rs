// SPDX-License-Identifier: Apache-2.0
//! The resources, one file each. Optional fields may be null or absent; answers have all fields.

mod actions;
mod attestation;
mod balloon;
mod boot_source;
mod bounds;
mod cpu_config;
mod drive;
mod entropy;
mod fault_message;
mod instance_info;
mod logger;
mod machine_config;
mod memory;
mod memory_hotplug;
mod metrics;
mod mmds;
mod network_interface;
mod object;
mod pmem;
mod rate_limiter;
mod serial;
mod snapshot;
mod vm_config_file;
mod vsock;

pub use actions::{ActionType, InstanceAction, VmState, VmUpdate};
pub use attestation::Attestation;
pub use balloon::{Balloon, BalloonHintingStart, BalloonStatisticsUpdate, BalloonUpdate};
pub use boot_source::BootSource;
pub use cpu_config::{
    CpuConfig, CpuidModifier, CpuidRegister, CpuidRegisterModifier, FeatureModifier, RegisterModifier,
};
pub use drive::{CacheType, Drive, DriveUpdate, IoEngine};
pub use entropy::Entropy;
pub use fault_message::FaultMessage;
pub use instance_info::{InstanceInfo, InstanceState, Version};
pub use logger::{LogLevel, Logger};
pub use machine_config::{
    CpuTemplate, HugePages, MAX_MEM_SIZE_MIB, MAX_VCPUS, MachineConfig, MachineConfigUpdate, MemoryBackend, MemoryPool,
    MemoryPopulate,
};
pub use memory::{KernelMemory, MemoryInfo, MemorySlot};
pub use memory_hotplug::{MemoryHotplug, MemoryHotplugUpdate};
pub use metrics::Metrics;
pub use mmds::{MmdsConfig, MmdsContents, MmdsVersion};
pub use network_interface::{MacAddr, NetworkInterface, NetworkInterfaceUpdate};
pub use pmem::{Pmem, PmemUpdate};
pub use rate_limiter::{RateLimiter, TokenBucket};
pub use serial::Serial;
pub use snapshot::{
    NetworkOverride, SnapshotCreate, SnapshotLoad, SnapshotMemory, SnapshotMemoryType, SnapshotType, VsockOverride,
};
pub use vm_config_file::VmConfigFile;
pub use vsock::Vsock;

object::objects!(
    Attestation,
    Balloon,
    BalloonHintingStart,
    BalloonStatisticsUpdate,
    BalloonUpdate,
    BootSource,
    CpuConfig,
    CpuidModifier,
    CpuidRegisterModifier,
    Drive,
    DriveUpdate,
    Entropy,
    FaultMessage,
    FeatureModifier,
    InstanceAction,
    InstanceInfo,
    KernelMemory,
    Logger,
    MachineConfig,
    MachineConfigUpdate,
    MemoryHotplug,
    MemoryHotplugUpdate,
    MemoryInfo,
    MemorySlot,
    Metrics,
    MmdsConfig,
    NetworkInterface,
    NetworkInterfaceUpdate,
    NetworkOverride,
    Pmem,
    PmemUpdate,
    RateLimiter,
    RegisterModifier,
    Serial,
    SnapshotCreate,
    SnapshotLoad,
    SnapshotMemory,
    TokenBucket,
    Version,
    VmConfigFile,
    VmUpdate,
    Vsock,
    VsockOverride,
);
