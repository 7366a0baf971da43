//! An initramfs: busybox, `/init`, and modules where the kernel has some.
//! Written here as an uncompressed cpio archive ("newc").

use std::ffi::OsStr;
use std::fs;
use std::io::{self, BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Context, Result};

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
        let cannot = || format!("Cannot write {}", path.display());
        let file = fs::File::create(path).with_context(cannot)?;
        let mut archive = Archive { to: BufWriter::new(file), inode: 0 };
        let busybox = fs::read(BUSYBOX).context("No busybox; cargo xtask setup installs busybox-static")?;

        for folder in ["bin", "dev", "proc"].iter().chain(self.folders) {
            archive.entry(OsStr::new(folder), DIRECTORY, (0, 0), b"").with_context(cannot)?;
        }
        archive.entry(OsStr::new("dev/console"), CHARACTER_DEVICE, (5, 1), b"").with_context(cannot)?;
        archive.entry(OsStr::new("bin/busybox"), PROGRAM, (0, 0), &busybox).with_context(cannot)?;
        archive.entry(OsStr::new("init"), PROGRAM, (0, 0), self.init.as_bytes()).with_context(cannot)?;
        for (name, content) in self.files {
            archive.entry(OsStr::new(name), FILE, (0, 0), content).with_context(cannot)?;
        }
        if let Some(dir) = self.modules {
            archive.entry(OsStr::new("modules"), DIRECTORY, (0, 0), b"").with_context(cannot)?;
            let mut entries: Vec<_> = read_dir(dir)?.flatten().map(|entry| entry.path()).collect();
            entries.sort();
            for path in entries {
                let content = fs::read(&path).with_context(|| format!("Cannot read {}", path.display()))?;
                let name = Path::new(stock::ORDER).with_file_name(path.file_name().unwrap_or_default());
                archive.entry(name.as_os_str(), FILE, (0, 0), &content).with_context(cannot)?;
            }
        }
        archive.finish().with_context(cannot)
    }
}

fn read_dir(kernel: &Path) -> Result<fs::ReadDir> {
    let dir = kernel.join("modules");
    fs::read_dir(&dir).with_context(|| format!("Cannot read {}", dir.display()))
}

/// A cpio archive as Documentation/driver-api/early-userspace/buffer-format.rst
/// of the kernel has it.
struct Archive<W: Write> {
    to: W,
    inode: u32,
}

impl<W: Write> Archive<W> {
    fn entry(&mut self, name: &OsStr, mode: u32, device: (u32, u32), content: &[u8]) -> io::Result<()> {
        self.inode += 1;
        let size =
            u32::try_from(content.len()).map_err(|_| io::Error::other("a file is too large for an initramfs"))?;
        let name_size = u32::try_from(name.len() + 1).map_err(|_| io::Error::other("a name is too long"))?;
        // inode, mode, uid, gid, links, time, size, device ×2, rdevice ×2, name size, check
        let fields = [self.inode, mode, 0, 0, 1, 0, size, 0, 0, device.0, device.1, name_size, 0];
        let mut header = String::from("070701");
        fields.iter().for_each(|field| header.push_str(&format!("{field:08X}")));

        self.to.write_all(header.as_bytes())?;
        self.to.write_all(name.as_bytes())?;
        self.to.write_all(&[0])?;
        self.pad(header.len() + name.len() + 1)?;
        self.to.write_all(content)?;
        self.pad(content.len())
    }

    /// Header and content each end on a multiple of 4 bytes.
    fn pad(&mut self, written: usize) -> io::Result<()> {
        self.to.write_all(&[0; 3][..written.next_multiple_of(4) - written])
    }

    fn finish(mut self) -> io::Result<()> {
        self.entry(OsStr::new("TRAILER!!!"), 0, (0, 0), b"")?;
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn entry_is_aligned_and_its_header_has_110_characters() {
        let mut archive = Archive { to: Vec::new(), inode: 0 };
        archive.entry(OsStr::new("init"), PROGRAM, (0, 0), b"hello").unwrap();
        let bytes = archive.to;
        assert_eq!(&bytes[..14], b"07070100000001");
        assert_eq!(&bytes[14..22], b"000081ED");
        assert_eq!(&bytes[110..115], b"init\0");
        assert_eq!(&bytes[116..121], b"hello");
        assert_eq!(bytes.len(), 124);
    }
}
