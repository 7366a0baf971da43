// SPDX-License-Identifier: Apache-2.0
//! Between the API's resources and a VM's configuration.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use secretvmm_api::{
    BootSource, CpuTemplate, HugePages, MachineConfig, MemoryBackend, MemoryPool, MemoryPopulate, VmConfigFile,
};

use secretvmm_api::refused;
use serde::de::DeserializeOwned;

use super::{Error, VmConfig, round_memory};
use crate::memory::{Huge, Pool, Populate, RamKind, SecretOptions};

/// What a VM has that nobody has described: Firecracker's default machine, on secret memory.
const DEFAULT_MACHINE: MachineConfig = MachineConfig {
    vcpu_count: 1,
    mem_size_mib: 128,
    smt: false,
    cpu_template: None,
    track_dirty_pages: false,
    huge_pages: HugePages::None,
    memory_backend: MemoryBackend::Secret,
    memory_pool: MemoryPool::Auto,
    memory_populate: MemoryPopulate::Background,
};

/// The machine of these resources.
pub fn machine_of(file: &VmConfigFile) -> MachineConfig {
    file.machine_config.clone().unwrap_or(DEFAULT_MACHINE)
}

/// Reads what `--config-file` or `--metadata` names.
///
/// # Errors
/// It cannot be read, is no valid JSON, or has a field that does not exist.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, Error> {
    let text = read(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    serde_json::from_str(&text).map_err(|source| Error::Parse { path: path.to_owned(), source })
}

impl VmConfig {
    /// The VM that these resources describe. `logger` and `metrics` are the process's, not the VM's.
    ///
    /// # Errors
    /// There is no boot source, or something that this VMM does not have.
    pub fn from_resources(file: &VmConfigFile) -> Result<Self, Error> {
        let boot = file.boot_source.clone().ok_or(Error::NoKernel)?;
        let mut config = Self::from_resources_so_far(file)?;
        config.kernel = boot.kernel_image_path;
        Ok(config)
    }

    /// As [`Self::from_resources`], while the kernel may still be missing.
    pub fn from_resources_so_far(file: &VmConfigFile) -> Result<Self, Error> {
        refuse(file)?;
        let machine = machine_of(file);
        let mut config = Self::new(Default::default());
        if let Some(boot) = &file.boot_source {
            config.kernel = boot.kernel_image_path.clone();
            config.initrd = boot.initrd_path.clone();
            config.cmdline = boot.boot_args.clone().unwrap_or(config.cmdline);
        }
        let mib = machine.mem_size_mib;
        config.mem_size = mib.checked_mul(1 << 20).and_then(round_memory).ok_or(Error::MemoryTooLarge(mib))?;
        (config.cpus, config.smt) = (machine.vcpu_count, machine.smt);
        config.backing = ram_kind(&machine)?;
        config.drives = file.drives.clone();
        // The guest calls the first drive it finds /dev/vda.
        config.drives.sort_by_key(|drive| !drive.is_root_device);
        config.networks = file.network_interfaces.clone();
        config.vsock = file.vsock.clone();
        config.entropy = file.entropy.clone();
        config.serial = file.serial.clone().unwrap_or_default();
        config.mmds = file.mmds_config.clone();
        Ok(config)
    }

    /// The resources that describe this VM.
    pub fn to_resources(&self) -> VmConfigFile {
        let (backend, options) = match self.backing {
            RamKind::Secret(options) => (MemoryBackend::Secret, options),
            RamKind::Shared => (MemoryBackend::Shared, SecretOptions::default()),
        };
        VmConfigFile {
            boot_source: Some(BootSource {
                kernel_image_path: self.kernel.clone(),
                boot_args: Some(self.cmdline.clone()),
                initrd_path: self.initrd.clone(),
            }),
            machine_config: Some(MachineConfig {
                vcpu_count: self.cpus,
                mem_size_mib: self.mem_size >> 20,
                smt: self.smt,
                huge_pages: if options.huge == Huge::Require { HugePages::Require2M } else { HugePages::None },
                memory_backend: backend,
                memory_pool: if options.pool == Pool::Boot { MemoryPool::Boot } else { MemoryPool::Auto },
                memory_populate: match options.populate {
                    Populate::Background => MemoryPopulate::Background,
                    Populate::All => MemoryPopulate::All,
                    Populate::Touch => MemoryPopulate::Touch,
                },
                ..DEFAULT_MACHINE
            }),
            drives: self.drives.clone(),
            network_interfaces: self.networks.clone(),
            vsock: self.vsock.clone(),
            entropy: self.entropy.clone(),
            serial: Some(self.serial.clone()),
            mmds_config: self.mmds.clone(),
            ..VmConfigFile::default()
        }
    }
}

/// What Firecracker has and this VMM does not.
fn refuse(file: &VmConfigFile) -> Result<(), Error> {
    let machine = machine_of(file);
    let template = machine.cpu_template.is_some_and(|template| template != CpuTemplate::None);
    let there = [
        (template, refused::CPU_TEMPLATE),
        (machine.track_dirty_pages, refused::DIRTY_PAGES),
        (file.cpu_config.is_some(), refused::CPU_TEMPLATE),
        (file.balloon.is_some(), refused::BALLOON),
        (!file.pmem.is_empty(), refused::PMEM),
        (file.memory_hotplug.is_some(), refused::MEMORY_HOTPLUG),
    ];
    match there.into_iter().find(|(there, _)| *there) {
        Some((_, reason)) => Err(Error::Refused(reason)),
        None => Ok(()),
    }
}

/// What the machine's memory is made of.
fn ram_kind(machine: &MachineConfig) -> Result<RamKind, Error> {
    let huge = match machine.huge_pages {
        HugePages::None | HugePages::Transparent => Huge::Auto,
        HugePages::Require2M => Huge::Require,
    };
    let pool = match machine.memory_pool {
        MemoryPool::Auto => Pool::Auto,
        MemoryPool::Boot => Pool::Boot,
    };
    let populate = match machine.memory_populate {
        MemoryPopulate::Background => Populate::Background,
        MemoryPopulate::All => Populate::All,
        MemoryPopulate::Touch => Populate::Touch,
    };
    match (machine.memory_backend, SecretOptions { huge, pool, populate }) {
        (MemoryBackend::Secret, options) => Ok(RamKind::Secret(options)),
        (MemoryBackend::Shared, options) if options == SecretOptions::default() => Ok(RamKind::Shared),
        (MemoryBackend::Shared, _) => Err(Error::SharedPages),
    }
}

/// Reads a file, of which a sane one has a few hundred bytes.
fn read(path: &Path) -> io::Result<String> {
    const LIMIT: u64 = 1 << 20;
    let mut text = String::new();
    File::open(path)?.take(LIMIT + 1).read_to_string(&mut text)?;
    if text.len() as u64 > LIMIT {
        return Err(io::Error::other("it is larger than 1 MiB"));
    }
    Ok(text)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn config(text: &str) -> Result<VmConfig, Error> {
        VmConfig::from_resources(&serde_json::from_str(text).unwrap())
    }

    #[test]
    fn from_resources_fills_everything_and_defaults() {
        let text = r#"{"boot-source": {"kernel_image_path": "/k", "initrd_path": "/i", "boot_args": "quiet"},
                       "machine-config": {"vcpu_count": 4, "mem_size_mib": 65, "memory_backend": "shared"}}"#;
        let expected = VmConfig { initrd: Some("/i".into()), cmdline: "quiet".into(), ..VmConfig::new("/k".into()) };
        let expected = VmConfig { mem_size: 66 << 20, cpus: 4, backing: RamKind::Shared, ..expected };
        assert_eq!(config(text).unwrap(), expected);
        let text = r#"{"boot-source": {"kernel_image_path": "/k"}, "machine-config":
                       {"vcpu_count": 1, "mem_size_mib": 512, "huge_pages": "2M", "memory_pool": "boot",
                        "memory_populate": "touch"}}"#;
        let expected = SecretOptions { huge: Huge::Require, pool: Pool::Boot, populate: Populate::Touch };
        let expected = RamKind::Secret(expected);
        assert_eq!(config(text).unwrap().backing, expected);
        let shared = text.replace("\"huge_pages\"", "\"memory_backend\": \"shared\", \"huge_pages\"");
        assert!(matches!(config(&shared), Err(Error::SharedPages)));
        let text = r#"{"boot-source": {"kernel_image_path": "/k"}}"#;
        assert_eq!(config(text).unwrap(), VmConfig { mem_size: 128 << 20, ..VmConfig::new("/k".into()) });
    }

    #[test]
    fn from_resources_puts_the_root_device_first_and_survives_a_round_trip() {
        let text = r#"{"boot-source": {"kernel_image_path": "/k", "boot_args": "quiet"}, "drives": [
                       {"drive_id": "a", "is_root_device": false, "path_on_host": "/a"},
                       {"drive_id": "b", "is_root_device": true, "path_on_host": "/b"}]}"#;
        let config = config(text).unwrap();
        assert_eq!(config.drives[0].drive_id, "b");
        assert_eq!(VmConfig::from_resources(&config.to_resources()).unwrap(), config);
    }

    #[test]
    fn from_resources_what_is_not_there_is_refused_with_a_reason() {
        for resource in [
            r#""machine-config": {"vcpu_count": 1, "mem_size_mib": 128, "track_dirty_pages": true}"#,
            r#""machine-config": {"vcpu_count": 1, "mem_size_mib": 128, "cpu_template": "T2"}"#,
            r#""cpu-config": "/c""#,
            r#""balloon": {"amount_mib": 1, "deflate_on_oom": true}"#,
        ] {
            let text = format!(r#"{{"boot-source": {{"kernel_image_path": "/k"}}, {resource}}}"#);
            assert!(matches!(config(&text), Err(Error::Refused(_))), "{resource}");
        }
        assert!(matches!(config("{}"), Err(Error::NoKernel)));
    }
}
