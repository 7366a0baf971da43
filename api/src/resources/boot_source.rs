// SPDX-License-Identifier: Apache-2.0
//! `/boot-source`: what the guest starts from.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Kernel, command line and initial RAM disk. Paths are the host's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct BootSource {
    /// A bzImage, or an ELF `vmlinux` with a PVH entry.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub kernel_image_path: PathBuf,
    /// The kernel command line; without it the VMM's default is used.
    #[serde(default)]
    pub boot_args: Option<String>,
    /// An initial RAM disk.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub initrd_path: Option<PathBuf>,
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn boot_source_needs_a_kernel_and_nothing_else() {
        let boot: BootSource = serde_json::from_str(r#"{"kernel_image_path": "/k"}"#).unwrap();
        assert_eq!(boot.kernel_image_path, PathBuf::from("/k"));
        assert_eq!(boot.boot_args, None);
        assert!(serde_json::from_str::<BootSource>("{}").is_err());
    }

    #[test]
    fn boot_source_unknown_field_is_refused() {
        let text = r#"{"kernel_image_path": "/k", "kernel": "/k"}"#;
        let err = serde_json::from_str::<BootSource>(text).unwrap_err();
        assert!(err.to_string().contains("kernel"), "{err}");
    }
}
