//! The resource types of `secretvmm`, one file each, with Firecracker's paths and field names so
//! that a configuration written for it needs no second spelling.
//!
//! Only fields that have an effect exist; an unknown field is an error, never ignored.

mod boot_source;
mod machine_config;
mod vm_config_file;

pub use boot_source::BootSource;
pub use machine_config::{HugePages, MachineConfig, MemoryBackend, MemoryPool};
pub use vm_config_file::VmConfigFile;
