// SPDX-License-Identifier: Apache-2.0
//! The file behind a drive.

use std::fs::{self, File, FileType, Metadata, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use vm_memory::VolatileSlice;

use super::Error;
use super::transfer::{self, Short};

/// log2 of a sector's bytes; virtio knows no other (5.2.4).
pub(super) const SECTOR_SHIFT: u32 = 9;
const SECTOR: u64 = 1 << SECTOR_SHIFT;

/// An open file of a number of sectors.
#[derive(Debug)]
pub(super) struct Disk {
    pub(super) file: File,
    pub(super) sectors: u64,
    pub(super) read_only: bool,
}

impl Disk {
    /// Opens a regular file or a block device, and never waits for anybody to do so.
    pub(super) fn open(drive: &str, path: &Path, read_only: bool) -> Result<Self, Error> {
        let failed = |source: io::Error| Error::Open {
            drive: drive.to_owned(),
            path: path.to_owned(),
            access: if read_only { "reading" } else { "reading and writing" },
            advice: advice(&source, read_only),
            source,
        };
        let check = |metadata: &Metadata| match refused(metadata.file_type()) {
            Some(kind) => Err(Error::Kind { drive: drive.to_owned(), path: path.to_owned(), kind }),
            None => Ok(()),
        };
        // Looked at first, because to open a tape or a watchdog does something; and again, because it
        // may be another file by then. O_NONBLOCK is for the FIFO that has come in between, and means
        // nothing to files and block devices.
        check(&fs::metadata(path).map_err(failed)?)?;
        let mut options = OpenOptions::new();
        options.read(true).write(!read_only).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
        let mut file = options.open(path).map_err(failed)?;
        check(&file.metadata().map_err(failed)?)?;
        let size = file.seek(SeekFrom::End(0));
        let bytes = size.map_err(|source| Error::Size { drive: drive.to_owned(), path: path.to_owned(), source })?;
        if bytes < SECTOR {
            return Err(Error::Empty { drive: drive.to_owned(), path: path.to_owned(), bytes });
        }
        if !bytes.is_multiple_of(SECTOR) {
            let rest = bytes % SECTOR;
            log::warn!("Drive {drive}: the guest does not see the last {rest} bytes of {}", path.display());
        }
        Ok(Self { file, sectors: bytes / SECTOR, read_only })
    }

    /// The offset of `sector`, if so many bytes from there on are whole sectors of this disk.
    pub(super) fn offset(&self, sector: u64, bytes: u64) -> Option<u64> {
        let end = sector.checked_add(bytes >> SECTOR_SHIFT)?;
        (bytes.is_multiple_of(SECTOR) && end <= self.sectors).then_some(sector << SECTOR_SHIFT)
    }

    /// Reads the next piece of what `buffers` take from `offset` on, of which `done` bytes are there; how
    /// many are then.
    pub(super) fn read(&self, offset: u64, buffers: &[VolatileSlice], done: u64) -> Result<u64, Short> {
        transfer::read(&self.file, offset, buffers, done)
    }

    /// Writes as [`Self::read`] reads.
    pub(super) fn write(&self, offset: u64, buffers: &[VolatileSlice], done: u64) -> Result<u64, Short> {
        transfer::write(&self.file, offset, buffers, done)
    }

    /// Returns when all that was written is on the host's disk.
    pub(super) fn flush(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

/// What a file is, if it is not for us.
fn refused(kind: FileType) -> Option<&'static str> {
    match kind {
        kind if kind.is_file() || kind.is_block_device() => None,
        kind if kind.is_dir() => Some("directory"),
        kind if kind.is_fifo() => Some("FIFO"),
        kind if kind.is_socket() => Some("socket"),
        _ => Some("character device"),
    }
}

pub(super) fn advice(err: &io::Error, read_only: bool) -> &'static str {
    match (err.kind(), read_only) {
        (io::ErrorKind::NotFound | io::ErrorKind::NotADirectory, _) => "check path_on_host",
        (io::ErrorKind::PermissionDenied, true) => {
            "let the user who runs secretvmm read it; while a VM runs, it may not be in /proc or /sys, and has to be \
             in a folder of --drives-from if that is given"
        }
        (io::ErrorKind::PermissionDenied, false) => {
            "let the user who runs secretvmm read and write it, or set is_read_only; while a VM runs, it may not be in \
             /proc or /sys, and has to be in a folder of --drives-from if that is given"
        }
        (io::ErrorKind::ReadOnlyFilesystem, false) => "set is_read_only",
        _ => "see why below",
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn offset_is_in_the_disk_for_all_sectors_and_lengths() {
        let file = tempfile::tempfile().unwrap();
        for sectors in 1..5 {
            let disk = Disk { file: file.try_clone().unwrap(), sectors, read_only: false };
            let near_the_end = |max: u64| (0..8).chain(max - 8..=max);
            for (sector, bytes) in near_the_end(u64::MAX).flat_map(|sector| {
                let lens =
                    (0..6 * SECTOR).step_by(256).chain(near_the_end(u64::MAX)).chain([u64::MAX / SECTOR * SECTOR]);
                lens.map(move |bytes| (sector, bytes))
            }) {
                let end = u128::from(sector) * u128::from(SECTOR) + u128::from(bytes);
                let inside = bytes % SECTOR == 0 && end <= u128::from(sectors * SECTOR);
                assert_eq!(
                    disk.offset(sector, bytes),
                    inside.then(|| sector * SECTOR),
                    "{sector} {bytes} of {sectors}"
                );
            }
        }
    }
}
