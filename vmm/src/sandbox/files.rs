// SPDX-License-Identifier: Apache-2.0
//! Which files the main thread can still reach by name once the guest runs.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::fs::{StatVfsMountFlags, statvfs};

/// File systems that show the kernel and its processes.
const KERNELS: [&str; 2] = ["/proc", "/sys"];

/// Paths, each with what is below it.
#[derive(Debug, Default)]
pub struct Files {
    /// To be read.
    pub read: Vec<PathBuf>,
    /// To be read and written, as they are: nothing is made, cut or removed.
    pub write: Vec<PathBuf>,
    /// Folders from which files may be removed.
    pub remove: Vec<PathBuf>,
}

/// Everything but the kernel's own file systems, for disks that a client names later.
///
/// Landlock allows trees and knows no exceptions, so these are the folders in the root. Where there is no such file
/// system or it cannot be written, as in a jail, it is the root: files in it come and go.
pub fn anywhere() -> Vec<PathBuf> {
    if KERNELS.iter().all(|path| is_harmless(Path::new(path))) {
        return vec!["/".into()];
    }
    let entries = fs::read_dir("/").into_iter().flatten().flatten().map(|entry| entry.path());
    entries.filter(|path| !KERNELS.iter().any(|kernel| path == Path::new(kernel))).collect()
}

fn is_harmless(path: &Path) -> bool {
    !path.exists() || statvfs(path).is_ok_and(|found| found.f_flag.contains(StatVfsMountFlags::RDONLY))
}
