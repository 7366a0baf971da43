// SPDX-License-Identifier: Apache-2.0
//! An initramfs: busybox, `/init`, and modules where the kernel has some.
//! An uncompressed cpio archive ("newc").

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};
use cpio::newc::{self, Builder};

use crate::linux::stock;

const BUSYBOX: &str = "/bin/busybox";

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const FILE: u32 = 0o100_644;
const CHARACTER_DEVICE: u32 = 0o020_600;

/// What is in an initramfs beside busybox, the console's device and a folder for /proc.
pub(crate) struct Initramfs<'a> {
    /// The script that is its first process.
    pub(crate) init: &'a str,
    /// Folders at its root.
    pub(crate) folders: &'a [&'a str],
    /// Files at its root, with their contents.
    pub(crate) files: &'a [(&'a str, &'a [u8])],
    /// One of Debian's kernels (`linux::stock`), whose modules go along.
    pub(crate) modules: Option<&'a Path>,
}

impl Initramfs<'_> {
    /// Writes it to `path`.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let busybox = fs::read(BUSYBOX).context("No busybox; cargo xtask setup installs busybox-static")?;
        let mut entries = vec![
            entry("dev", DIRECTORY),
            Entry { device: (5, 1), ..entry("dev/console", CHARACTER_DEVICE) },
            entry("proc", DIRECTORY),
            entry("bin", DIRECTORY),
            Entry { content: busybox, ..entry("bin/busybox", PROGRAM) },
            Entry { content: self.init.into(), ..entry("init", PROGRAM) },
        ];
        entries.extend(self.folders.iter().map(|folder| entry(folder, DIRECTORY)));
        entries
            .extend(self.files.iter().map(|(name, content)| Entry { content: content.to_vec(), ..entry(name, FILE) }));
        entries.extend(self.modules.map(modules).transpose()?.into_iter().flatten());
        archive(path, entries).with_context(|| format!("Cannot write {}", path.display()))
    }
}

/// The modules of a kernel and their order.
fn modules(kernel: &Path) -> Result<Vec<Entry>> {
    let dir = kernel.join("modules");
    let cannot = || format!("Cannot read {}", dir.display());
    let mut entries = vec![entry("modules", DIRECTORY)];
    for file in fs::read_dir(&dir).with_context(cannot)? {
        let file = file.with_context(cannot)?;
        let name = Path::new(stock::ORDER).with_file_name(file.file_name());
        let content = fs::read(file.path()).with_context(cannot)?;
        entries.push(Entry { content, ..entry(&name.to_string_lossy(), FILE) });
    }
    Ok(entries)
}

/// A file, folder or device.
struct Entry {
    name: String,
    mode: u32,
    device: (u32, u32),
    content: Vec<u8>,
}

fn entry(name: &str, mode: u32) -> Entry {
    Entry { name: name.into(), mode, device: (0, 0), content: Vec::new() }
}

fn archive(path: &Path, entries: Vec<Entry>) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    for (Entry { name, mode, device, content }, inode) in entries.into_iter().zip(1..) {
        let builder = Builder::new(&name).ino(inode).mode(mode).rdev_major(device.0).rdev_minor(device.1);
        let size =
            u32::try_from(content.len()).map_err(|_| io::Error::other("a file is too large for an initramfs"))?;
        let mut writer = builder.write(&mut file, size);
        writer.write_all(&content)?;
        writer.finish()?;
    }
    newc::trailer(file)?.flush()
}
