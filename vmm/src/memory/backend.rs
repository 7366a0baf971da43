// SPDX-License-Identifier: Apache-2.0
//! What guest RAM is made of. Decided once, here; nothing behind [`super::GuestRam`] can tell.
#![allow(unsafe_code)] // memfd_create(2) for the ordinary kind.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd};

use secretmem::{Mapping, Mode, SecretFile};

use super::Error;
use super::room::Room;

/// What guest RAM is to be made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RamKind {
    /// Secret pages: absent from the host kernel's direct map.
    Secret(SecretOptions),
    /// Ordinary pages, on the user's explicit word.
    Shared,
}

impl Default for RamKind {
    fn default() -> Self {
        Self::Secret(SecretOptions::default())
    }
}

/// Which secret pages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SecretOptions {
    /// Their size.
    pub huge: Huge,
    /// Where they come from.
    pub pool: Pool,
    /// When they come.
    pub populate: Populate,
}

/// The size of secret pages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Huge {
    /// 2 MiB where the kernel finds them, else 4 KiB.
    #[default]
    Auto,
    /// 2 MiB or an error.
    Require,
    /// 4 KiB, allocated when the guest touches them.
    Off,
}

/// Where secret pages come from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Pool {
    /// The pool reserved at boot while it lasts, if this user may, else the host's free memory.
    #[default]
    Auto,
    /// The pool or an error.
    Boot,
}

/// When secret pages of 2 MiB are allocated; small ones ([`Huge::Off`]) always come when they are touched.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Populate {
    /// Beside the running guest, which gets first what it touches: it starts at once, however large it is. Where the pool
    /// or the size of pages was demanded, and so may be an error, as [`Self::All`].
    #[default]
    Background,
    /// All of them before the guest runs: a limit or a lack of memory shows then, and not later.
    All,
    /// When the guest touches them. The VM ends if there are none by then.
    Touch,
}

impl SecretOptions {
    /// Always exclusive: nobody but this process, which is the VM's, has any use for the file.
    fn mode(self) -> Mode {
        let huge = if self.huge == Huge::Require { Mode::HUGE } else { Mode::empty() };
        let pool = if self.pool == Pool::Boot { Mode::POOL } else { Mode::empty() };
        Mode::EXCLUSIVE | huge | pool
    }

    /// When its pages of 2 MiB come, whatever else was asked for; None for small ones.
    fn populate(self) -> Option<Populate> {
        let demanded = self.huge == Huge::Require || self.pool == Pool::Boot;
        match (self.huge, self.populate) {
            (Huge::Off, _) => None,
            (_, Populate::Background) if demanded => Some(Populate::All),
            (_, populate) => Some(populate),
        }
    }
}

/// The file behind all of a guest's RAM.
#[derive(Debug)]
pub enum Backing {
    /// Secret pages: absent from the host kernel's direct map.
    Secret(SecretFile, SecretOptions),
    /// Ordinary pages.
    Shared(File),
}

impl Backing {
    /// Makes a file of `size` bytes of the kind asked for; there is no fallback to the other kind.
    pub fn create(kind: RamKind, size: u64) -> Result<Self, Error> {
        match kind {
            RamKind::Secret(options) => Ok(Self::Secret(SecretFile::create(size, options.mode())?, options)),
            RamKind::Shared => Ok(Self::Shared(memfd(size).map_err(Error::Shared)?)),
        }
    }

    /// Readies what `mapping` shows of the file from `offset`. With [`Populate::All`] secret pages are
    /// allocated now, so that a host without room for them says so before the guest runs. Ordinary
    /// pages come when they are touched.
    pub fn prepare(&self, mapping: &Mapping, offset: u64) -> Result<(), Error> {
        let Self::Secret(file, options) = self else { return Ok(()) };
        match options.populate() {
            None => mapping.use_small_pages()?,
            Some(Populate::All) => {
                let size = mapping.len() as u64;
                populate_with_room(file, offset, size)?;
                log::info!("{} MiB of guest memory are there", size >> 20);
            }
            Some(Populate::Background | Populate::Touch) => {}
        }
        Ok(())
    }

    /// The file that is to be populated while the guest runs, if any.
    pub(super) fn to_populate(&self) -> Option<&SecretFile> {
        match self {
            Self::Secret(file, options) if options.populate() == Some(Populate::Background) => Some(file),
            Self::Secret(..) | Self::Shared(_) => None,
        }
    }

    /// What it is made of.
    pub(super) fn kind(&self) -> RamKind {
        match self {
            Self::Secret(_, options) => RamKind::Secret(*options),
            Self::Shared(_) => RamKind::Shared,
        }
    }
}

impl AsFd for Backing {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Secret(file, _) => file.as_fd(),
            Self::Shared(file) => file.as_fd(),
        }
    }
}

/// An error comes back even if a control group has no page left.
fn populate_with_room(file: &SecretFile, offset: u64, size: u64) -> Result<(), secretmem::Error> {
    let room = Room::hold();
    // Nothing is no valid size: what an error makes run has run then.
    let _ = file.populate(offset, 0);
    let populated = file.populate(offset, size);
    drop(room);
    populated
}

fn memfd(size: u64) -> io::Result<File> {
    // SAFETY: the name is a C string; the call touches nothing else.
    let fd = unsafe { libc::memfd_create(c"guest-ram".as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a fresh descriptor that nobody else has.
    let file = unsafe { File::from_raw_fd(fd) };
    file.set_len(size)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn populate_what_was_demanded_comes_before_the_guest_runs() {
        let options = |huge, pool| SecretOptions { huge, pool, ..SecretOptions::default() }.populate();
        assert_eq!(options(Huge::Auto, Pool::Auto), Some(Populate::Background));
        assert_eq!(options(Huge::Require, Pool::Auto), Some(Populate::All));
        assert_eq!(options(Huge::Auto, Pool::Boot), Some(Populate::All));
        assert_eq!(options(Huge::Off, Pool::Auto), None, "small pages come when they are touched");
        let touch = SecretOptions { populate: Populate::Touch, huge: Huge::Require, pool: Pool::Boot };
        assert_eq!(touch.populate(), Some(Populate::Touch), "on the user's explicit word");
    }
}
