// SPDX-License-Identifier: Apache-2.0
//! `RLIMIT_MEMLOCK`, the budget of secret pages.
//!
//! The kernel charges a secret page to the *user* that created the file, when the page is first
//! touched, and compares the user's total with the limit of the *process* that touches it. A page
//! too many is a SIGBUS (or EFAULT out of `KVM_RUN`) in mid-run, and CAP_IPC_LOCK does not help;
//! so the room is made, or found missing, before anything is mapped.
#![allow(unsafe_code)] // getrlimit, setrlimit and getuid.

use std::io;

mod usage;

pub use usage::in_use;

/// Soft and hard limit in bytes; `u64::MAX` is "unlimited".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// What the kernel compares with.
    pub soft: u64,
    /// Up to where an unprivileged process may raise `soft`.
    pub hard: u64,
}

/// Why there is no room for that much secret memory.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The limit is too low and this process may not raise it.
    #[error(
        "Locked-memory limit (RLIMIT_MEMLOCK) is too low: this needs {} KiB and this user already has {} KiB of \
         secret memory, but the limit is {} KiB; run `ulimit -l {}` as root (or set \
         LimitMEMLOCK=infinity, or CAP_SYS_RESOURCE) and try again",
        .need / 1024, .used / 1024, .limit.hard / 1024, .need.saturating_add(*.used).div_ceil(1024)
    )]
    TooLow {
        /// Bytes asked for.
        need: u64,
        /// Bytes of secret memory that this user has mapped already.
        used: u64,
        /// The limits in force.
        limit: Limit,
    },
    /// The limit could not be read.
    #[error("Locked-memory limit could not be read")]
    Read(#[source] io::Error),
}

/// Makes room for `need` more bytes of secret memory, raising the limit when that is allowed.
///
/// A process that may set any limit gets "unlimited": the user's total grows with every other
/// secret mapping of the same user, so an exact limit would be hit by a neighbour's pages.
///
/// # Errors
/// [`Error::TooLow`], with the figures and the command that helps.
pub fn make_room(need: u64) -> Result<Limit, Error> {
    make_room_beside(need, || in_use(current_uid()))
}

/// As [`make_room`], on a kernel without the secretvmm series. That compares what this process alone has mapped, which
/// is nothing at its first use.
pub(crate) fn make_first_room(need: u64) -> Result<Limit, Error> {
    make_room_beside(need, || 0)
}

fn make_room_beside(need: u64, used: impl FnOnce() -> u64) -> Result<Limit, Error> {
    let limit = get().map_err(Error::Read)?;
    if limit.soft == u64::MAX {
        return Ok(limit);
    }
    let unlimited = Limit { soft: u64::MAX, hard: u64::MAX };
    if set(unlimited).is_ok() {
        return Ok(unlimited);
    }
    let used = used();
    let raised = raise(limit, need, used)?;
    if raised == limit || set(raised).is_ok() {
        return Ok(raised);
    }
    Err(Error::TooLow { need, used, limit })
}

/// The limits that would do, as far as an unprivileged process may choose them.
fn raise(limit: Limit, need: u64, used: u64) -> Result<Limit, Error> {
    let total = need.saturating_add(used);
    if total > limit.hard {
        return Err(Error::TooLow { need, used, limit });
    }
    Ok(Limit { soft: limit.hard, hard: limit.hard })
}

/// The limits of this process.
pub fn get() -> io::Result<Limit> {
    let mut raw = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel fills the structure we own.
    if unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &mut raw) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Limit { soft: raw.rlim_cur, hard: raw.rlim_max })
}

fn set(limit: Limit) -> io::Result<()> {
    let raw = libc::rlimit { rlim_cur: limit.soft, rlim_max: limit.hard };
    // SAFETY: the kernel only reads the structure.
    if unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn current_uid() -> u32 {
    // SAFETY: always succeeds and takes nothing.
    unsafe { libc::getuid() }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const LIMIT: Limit = Limit { soft: 8 << 20, hard: 64 << 20 };

    #[test]
    fn raise_counts_what_the_user_already_has() {
        assert_eq!(raise(LIMIT, 32 << 20, 32 << 20).unwrap().soft, LIMIT.hard);
        assert!(raise(LIMIT, 32 << 20, (32 << 20) + 1).is_err());
        assert!(raise(LIMIT, u64::MAX, 1).is_err());
    }

    #[test]
    fn too_low_names_the_command_and_the_figures() {
        let text = raise(LIMIT, 128 << 20, 1 << 20).unwrap_err().to_string();
        assert!(text.contains("`ulimit -l 132096`"), "{text}");
        assert!(text.contains("already has 1024 KiB"), "{text}");
    }
}
