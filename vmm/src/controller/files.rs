// SPDX-License-Identifier: Apache-2.0
//! What the main thread needs by name while a VM runs.

use std::path::{Path, PathBuf};

use super::Options;
use crate::config::VmConfig;
use crate::sandbox::{self, Files};

/// The drives' files; the kernel's account of memory and, for tokens, of the host; and the folders of sockets, whose files
/// go at the end. A client may replace a drive's file.
pub(super) fn of(config: &VmConfig, options: &Options, attests: bool) -> Files {
    let mut files = Files { read: vec!["/proc".into()], ..Files::default() };
    if attests {
        files.read.push("/sys".into());
    }
    for drive in &config.drives {
        let list = if drive.is_read_only == Some(true) { &mut files.read } else { &mut files.write };
        list.extend(drive.path_on_host.clone());
    }
    if options.api_sock.is_some() && !config.drives.is_empty() {
        files.write.extend(match options.drives_from.as_slice() {
            [] => sandbox::anywhere(),
            folders => folders.to_vec(),
        });
    }
    let sockets = options.api_sock.iter().chain(config.vsock.iter().map(|vsock| &vsock.uds_path));
    files.remove.extend(sockets.map(|path| folder_of(path)));
    files
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => ".".into(),
    }
}
