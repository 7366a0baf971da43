//! The configuration file: the resources of one VM in one JSON object.

use serde::{Deserialize, Serialize};

use crate::{BootSource, MachineConfig};

/// What `--config-file` reads.
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct VmConfigFile {
    /// Required: what to start.
    pub boot_source: BootSource,
    /// Optional: the VMM's default machine otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine_config: Option<MachineConfig>,
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn config_file_unknown_resource_is_refused() {
        let text = r#"{"boot-source": {"kernel_image_path": "/k"}, "drives": []}"#;
        assert!(serde_json::from_str::<VmConfigFile>(text).is_err());
    }

    #[test]
    fn config_file_survives_a_round_trip() {
        let text = r#"{"boot-source":{"kernel_image_path":"/k"}}"#;
        let file: VmConfigFile = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&file).unwrap(), text);
    }
}
