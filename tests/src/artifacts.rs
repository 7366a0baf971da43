// SPDX-License-Identifier: Apache-2.0
//! Where `cargo xtask` leaves kernels for the programs inside the nested host.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

/// The project's own guest kernel, entered at its 64-bit entry point, with the demo root file system inside.
pub const GUEST_BZIMAGE: &str = "guest/bzImage";
/// The same kernel as an ELF file, entered through PVH.
pub const GUEST_VMLINUX: &str = "guest/vmlinux";
/// Debian's unmodified cloud kernel.
pub const STOCK_CLOUD_VMLINUZ: &str = "stock-cloud/vmlinuz";

/// Reference values of `secretvmm-verify`: build ids and digests of all of these.
pub const REFERENCE_VALUES: &str = "reference-values.json";

/// Debian with systemd, as an ext4 image.
pub const DEBIAN_ROOTFS: &str = "debian/rootfs.ext4";
/// With it, the cloud kernel finds that image on a disk.
pub const DEBIAN_INITRD: &str = "debian/initrd";
/// The guest program that loads virtio devices.
pub const LOAD: &str = "load/load";
/// A python with a public Firecracker client.
pub const PYTHON_FIRECRACKER: &str = "python-firecracker/bin/python";

/// The path of an artefact, one of the constants above.
///
/// # Errors
/// Says which command makes the artefact when it is not there.
pub fn artifact(name: &str) -> Result<PathBuf> {
    let folder = std::env::var_os("SECRETVMM_ARTIFACTS")
        .context("SECRETVMM_ARTIFACTS is not set; run this through `cargo xtask host -- COMMAND`")?;
    let path = PathBuf::from(folder).join(name);
    ensure!(path.exists(), "{} is missing; run `cargo xtask demo` once to make it", path.display());
    Ok(path)
}
