// SPDX-License-Identifier: Apache-2.0
//! From files on the host to a guest that is ready for its first instruction.
//!
//! [`Kernel::open`] and [`Initrd::open`] read headers and decide; [`Plan::new`] places everything
//! for a given amount of RAM; nothing is written before both are done. Every number in an image is
//! taken for a lie until it is checked against the file and the RAM.

mod bzimage;
mod cmdline;
mod elf;
mod initrd;
mod measure;
mod plan;
#[cfg(test)]
mod testing;

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use vm_memory::{ByteValued, Bytes, GuestAddress};

pub use bzimage::BzImage;
pub use cmdline::check as check_cmdline;
pub use elf::ElfImage;
pub(crate) use elf::find_note;
pub use initrd::Initrd;
pub use measure::Loaded;
pub use plan::Plan;

use crate::memory::GuestMemory;

/// Why a kernel, initrd or command line cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file cannot be opened or read.
    #[error("{what} {} cannot be read", path.display())]
    Read {
        /// "Kernel image" or "Initrd".
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A directory, FIFO, device or socket, an empty file, or one of procfs.
    #[error("{what} {} is not a regular file with contents", path.display())]
    NotRegular {
        /// "Kernel image" or "Initrd".
        what: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// Neither a bzImage nor an ELF file.
    #[error("Kernel image {} is neither a bzImage nor an ELF vmlinux", .0.display())]
    UnknownFormat(PathBuf),
    /// A recognised image with something wrong in it.
    #[error("Kernel image {} cannot be booted: {why}", path.display())]
    BadKernel {
        /// The file.
        path: PathBuf,
        /// What is wrong and what would help.
        why: String,
    },
    /// The file ends before its own headers say.
    #[error("Kernel image {} is truncated: it should have {expected} bytes and has {actual}", path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Bytes that the headers promise.
        expected: u64,
        /// Bytes that there are.
        actual: u64,
    },
    /// The initrd has no bytes.
    #[error("Initrd {} is empty; leave --initrd out or name another file", .0.display())]
    EmptyInitrd(PathBuf),
    /// RAM is too small for this kernel.
    #[error("This kernel needs at least {} MiB of memory; give --mem {}M or more", .0 >> 20, .0 >> 20)]
    KernelDoesNotFit(u64),
    /// RAM is too small, or the kernel reaches too low, for this initrd.
    #[error(
        "Initrd of {size} bytes does not fit between the kernel (ends at {kernel_end:#x}) and {limit:#x}; \
         give more --mem or a smaller initrd"
    )]
    InitrdDoesNotFit {
        /// Bytes of initrd.
        size: u64,
        /// First free address behind the kernel.
        kernel_end: u64,
        /// First address that the initrd may not reach.
        limit: u64,
    },
    /// The command line is longer than the kernel takes.
    #[error("Command line is too long: {actual} bytes, but this kernel takes {limit}; shorten --cmdline")]
    CmdlineTooLong {
        /// Bytes given.
        actual: usize,
        /// Bytes allowed, without the NUL.
        limit: usize,
    },
    /// The command line has a NUL or another control character in it.
    #[error("Command line has the control character {0:#04x} in it; remove it from --cmdline")]
    CmdlineCharacter(u8),
    /// Writing into guest memory failed.
    #[error("Guest memory could not be written")]
    Write(#[from] vm_memory::GuestMemoryError),
}

/// A kernel image whose headers have been checked.
#[derive(Debug)]
pub enum Kernel {
    /// Entered in 64-bit mode at its load address + 0x200.
    BzImage(BzImage),
    /// Entered in 32-bit mode at its PVH entry.
    Elf(ElfImage),
}

impl Kernel {
    /// Opens `path` and checks its headers against its length.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let mut source = Source::open("Kernel image", path)?;
        let head = source.read_head(bzimage::HEAD_LEN)?;
        if head.starts_with(elf::MAGIC) {
            return Ok(Self::Elf(ElfImage::parse(source, &head)?));
        }
        if bzimage::is_bzimage(&head) {
            return Ok(Self::BzImage(BzImage::parse(source, &head)?));
        }
        Err(Error::UnknownFormat(path.to_owned()))
    }

    /// Guest-physical addresses that the kernel occupies until it has set itself up.
    pub fn footprint(&self) -> Range<u64> {
        match self {
            Self::BzImage(image) => image.footprint(),
            Self::Elf(image) => image.footprint(),
        }
    }

    /// The first address that an initrd may not reach, as far as the kernel has a say.
    pub fn initrd_limit(&self) -> u64 {
        match self {
            Self::BzImage(image) => image.initrd_limit(),
            Self::Elf(_) => u64::from(u32::MAX),
        }
    }

    /// The longest command line that the kernel takes, without the NUL.
    pub fn cmdline_limit(&self) -> usize {
        match self {
            Self::BzImage(image) => image.cmdline_limit(),
            Self::Elf(_) => crate::layout::CMDLINE_MAX - 1,
        }
    }

    /// The address of its first instruction.
    fn entry(&self) -> u64 {
        match self {
            Self::BzImage(image) => image.entry(),
            Self::Elf(image) => image.entry(),
        }
    }

    /// What [`Self::load`] copies: guest-physical addresses and lengths.
    fn pieces(&self) -> Vec<(u64, u64)> {
        match self {
            Self::BzImage(image) => vec![image.piece()],
            Self::Elf(image) => image.pieces().collect(),
        }
    }

    /// The setup header as the file has it, from which the zero page is made.
    fn setup_header(&self) -> Option<&[u8]> {
        match self {
            Self::BzImage(image) => Some(image.header().as_slice()),
            Self::Elf(_) => None,
        }
    }

    /// Copies the kernel to where [`Self::footprint`] says.
    pub fn load(&mut self, memory: &GuestMemory) -> Result<(), Error> {
        match self {
            Self::BzImage(image) => image.load(memory),
            Self::Elf(image) => image.load(memory),
        }
    }
}

/// An open regular file with its name, for errors.
#[derive(Debug)]
struct Source {
    what: &'static str,
    path: PathBuf,
    file: File,
    len: u64,
}

impl Source {
    fn open(what: &'static str, path: &Path) -> Result<Self, Error> {
        let read_error = |source| Error::Read { what, path: path.to_owned(), source };
        // A FIFO or a device is not waited for, and what was opened is looked at, not what was there before.
        let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
        let file = File::options().read(true).custom_flags(flags).open(path).map_err(read_error)?;
        let metadata = file.metadata().map_err(read_error)?;
        // Files of procfs and tracefs are regular, have length 0, and some wait for something to be read.
        if !metadata.is_file() || metadata.len() == 0 {
            return Err(Error::NotRegular { what, path: path.to_owned() });
        }
        let len = metadata.len();
        Ok(Self { what, path: path.to_owned(), file, len })
    }

    fn read_error(&self, source: io::Error) -> Error {
        Error::Read { what: self.what, path: self.path.clone(), source }
    }

    fn bad(&self, why: impl Into<String>) -> Error {
        Error::BadKernel { path: self.path.clone(), why: why.into() }
    }

    fn truncated(&self, expected: u64) -> Error {
        Error::Truncated { path: self.path.clone(), expected, actual: self.len }
    }

    /// Up to `len` bytes from the start; fewer if the file is shorter.
    fn read_head(&mut self, len: u64) -> Result<Vec<u8>, Error> {
        let mut head = Vec::new();
        (&self.file).take(len).read_to_end(&mut head).map_err(|err| self.read_error(err))?;
        Ok(head)
    }

    /// Exactly `len` bytes from `offset`. The caller bounds `len`.
    fn read_at(&mut self, offset: u64, len: usize) -> Result<Vec<u8>, Error> {
        let mut bytes = vec![0; len];
        let read = self.file.seek(SeekFrom::Start(offset)).and_then(|_| self.file.read_exact(&mut bytes));
        read.map_err(|err| self.read_error(err))?;
        Ok(bytes)
    }

    /// Reads `len` bytes from `offset` straight into guest memory, with no buffer in between.
    fn copy_to(&mut self, offset: u64, len: u64, memory: &GuestMemory, to: u64) -> Result<(), Error> {
        self.file.seek(SeekFrom::Start(offset)).map_err(|err| self.read_error(err))?;
        let count = usize::try_from(len).unwrap_or(usize::MAX);
        Ok(memory.read_exact_volatile_from(GuestAddress(to), &mut self.file, count)?)
    }
}
