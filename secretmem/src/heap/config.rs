// SPDX-License-Identifier: Apache-2.0
//! How the allocator is set up.
#![allow(unsafe_code)] // getrandom(2)

use super::region::Backing;
use super::slab::SLAB;
use super::{AllocError, say};
use crate::{Mode, memlock};

/// What a child sees after `fork(2)`. `vfork` and `posix_spawn` are no fork in this sense.
///
/// Secret memory is always shared, so that without this a child would write to its parent's keys. That is
/// also why `MADV_WIPEONFORK` is refused for it (EINVAL: private anonymous memory only), and done here by hand.
/// A process made by the bare system call, without the C library's `fork`, sees nothing and faults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fork {
    /// Nothing: touching or freeing the parent's allocations is a SIGSEGV. New ones work.
    #[default]
    Fault,
    /// The allocations, all zero.
    Wiped,
    /// A secret copy, made before the fork, as servers need that fork their workers.
    Copy,
}

/// How the allocator is set up, once for a process.
///
/// ```
/// let config = secretmem::Config::default();
/// assert_eq!(config.fork, secretmem::Fork::Fault);
/// assert!(!config.fallback);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// What a forked child sees.
    pub fork: Fork,
    /// What the pages are made of, and for whom; see [`crate::features`]. `HUGE` is not for small allocations,
    /// and `EXCLUSIVE` not for [`Fork::Copy`].
    pub mode: Mode,
    /// Use ordinary locked memory, and say so on standard error, where the kernel has no secret memory.
    pub fallback: bool,
}

impl Config {
    /// The memory to use; makes room for the first pages.
    pub(super) fn backing(&self) -> Result<Backing, AllocError> {
        if self.mode.contains(Mode::HUGE) {
            return Err(AllocError::Huge);
        }
        let secret = self.secret();
        match secret {
            Err(error) if self.fallback => {
                say(format_args!("{}; ordinary memory is used instead", crate::heap::error_chain(&error)));
                Ok(Backing::Ordinary)
            }
            secret => secret.map(Backing::Secret),
        }
    }

    #[cfg(not(miri))]
    fn secret(&self) -> Result<Mode, AllocError> {
        let stock = crate::features()?.is_empty();
        let make_room = if stock { memlock::make_first_room } else { memlock::make_room };
        make_room(SLAB as u64)?;
        crate::file::memfd_secret(self.mode).map_err(|source| AllocError::Map { len: SLAB, source })?;
        Ok(self.mode)
    }

    #[cfg(miri)]
    fn secret(&self) -> Result<Mode, AllocError> {
        Ok(self.mode)
    }
}

/// A word that an overflow does not guess.
pub(super) fn random() -> u64 {
    let mut word = [0; 8];
    // SAFETY: the buffer is ours. Up to 256 bytes are never cut short.
    unsafe { libc::getrandom(word.as_mut_ptr().cast(), word.len(), 0) };
    u64::from_ne_bytes(word) | 1
}
