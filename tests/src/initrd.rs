// SPDX-License-Identifier: Apache-2.0
//! Initial RAM disks of a few programs and a script.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Packs busybox, other `programs` (to `/bin`, under their own names) and an init script for busybox's shell.
/// `folder` is a scratch folder; the archive is made in it.
///
/// # Errors
/// A program cannot be copied, or cpio fails.
pub fn pack(folder: &Path, programs: &[&Path], script: &str) -> Result<PathBuf> {
    let root = folder.join("root");
    fs::create_dir_all(root.join("bin"))?;
    for program in [Path::new("/bin/busybox")].iter().chain(programs) {
        let name = program.file_name().context("A program without a name")?;
        fs::copy(program, root.join("bin").join(name)).with_context(|| format!("Cannot copy {}", program.display()))?;
    }
    let init = root.join("init");
    fs::write(&init, format!("#!/bin/busybox sh\n{script}\n"))?;
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755))?;
    let initrd = folder.join("initrd");
    let pack = "find . | cpio --quiet -o -H newc > \"$0\"";
    let status = Command::new("sh").arg("-c").arg(pack).arg(&initrd).current_dir(&root).status()?;
    ensure!(status.success(), "cpio failed: {status}");
    Ok(initrd)
}
