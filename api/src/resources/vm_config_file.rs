// SPDX-License-Identifier: Apache-2.0
//! All resources of one VM in one JSON object: the configuration file and `/vm/config`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{
    Balloon, BootSource, Drive, Entropy, Logger, MachineConfig, MemoryHotplug, Metrics, MmdsConfig, NetworkInterface,
    Pmem, Serial, Vsock,
};

/// What `--config-file` reads and `GET /vm/config` answers.
///
/// ```
/// let text = r#"{
///     "boot-source": { "kernel_image_path": "bzImage", "boot_args": "console=ttyS0" },
///     "machine-config": { "vcpu_count": 2, "mem_size_mib": 512 }
/// }"#;
/// let file: secretvmm_api::VmConfigFile = serde_json::from_str(text)?;
/// assert_eq!(file.machine_config.map(|machine| machine.vcpu_count), Some(2));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(description = "All resources of a VM."))]
#[serde(remote = "Self", deny_unknown_fields, default, rename_all = "kebab-case")]
#[allow(missing_docs)]
pub struct VmConfigFile {
    /// What to start. A file has to have it.
    pub boot_source: Option<BootSource>,
    /// The VMM's default machine otherwise.
    pub machine_config: Option<MachineConfig>,
    pub drives: Vec<Drive>,
    pub network_interfaces: Vec<NetworkInterface>,
    pub vsock: Option<Vsock>,
    pub entropy: Option<Entropy>,
    pub serial: Option<Serial>,
    pub logger: Option<Logger>,
    pub metrics: Option<Metrics>,
    pub mmds_config: Option<MmdsConfig>,
    /// A file with what `PUT /cpu-config` takes.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub cpu_config: Option<PathBuf>,
    pub balloon: Option<Balloon>,
    pub pmem: Vec<Pmem>,
    pub memory_hotplug: Option<MemoryHotplug>,
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn config_file_unknown_resource_is_refused() {
        let text = r#"{"boot-source": {"kernel_image_path": "/k"}, "disks": []}"#;
        assert!(serde_json::from_str::<VmConfigFile>(text).is_err());
    }

    #[test]
    fn config_file_that_names_everything_is_read() {
        let text = r#"{
            "boot-source": {"kernel_image_path": "/k", "boot_args": "quiet", "initrd_path": null},
            "machine-config": {"vcpu_count": 2, "mem_size_mib": 1024, "smt": false, "track_dirty_pages": false,
                               "huge_pages": "None"},
            "cpu-config": null,
            "drives": [{"drive_id": "root-fs", "partuuid": null, "is_root_device": true, "cache_type": "Unsafe",
                        "is_read_only": false, "path_on_host": "/d", "io_engine": "Sync", "rate_limiter": null,
                        "socket": null}],
            "network-interfaces": [{"iface_id": "eth0", "host_dev_name": "tap0"}],
            "vsock": {"guest_cid": 3, "uds_path": "/v"},
            "entropy": {}, "serial": {}, "logger": {"level": "Info"}, "metrics": {"metrics_path": "/m"},
            "mmds-config": {"network_interfaces": ["eth0"]},
            "balloon": null, "pmem": [], "memory-hotplug": null
        }"#;
        let file: VmConfigFile = serde_json::from_str(text).unwrap();
        assert_eq!((file.drives.len(), file.network_interfaces.len()), (1, 1));
        assert!(file.vsock.is_some() && file.mmds_config.is_some() && file.balloon.is_none());
    }

    #[test]
    fn config_file_survives_a_round_trip() {
        let text = r#"{"boot-source": {"kernel_image_path": "/k"},
                       "drives": [{"drive_id": "a", "is_root_device": true, "path_on_host": "/d"}]}"#;
        let file: VmConfigFile = serde_json::from_str(text).unwrap();
        let again: VmConfigFile = serde_json::from_str(&serde_json::to_string(&file).unwrap()).unwrap();
        assert_eq!(again, file);
    }
}
