// SPDX-License-Identifier: Apache-2.0
//! Can this kernel give secret memory, and if not, why not?

use std::io;
use std::path::Path;

use crate::Mode;
use crate::file::memfd_secret;

/// Why `memfd_secret(2)` cannot be had. The texts say what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unavailable {
    /// The kernel has the code but it is switched off.
    #[error(
        "Secret memory is switched off in this kernel; boot it with secretmem.enable=1 \
         (and without anything that forbids changes of the direct map)"
    )]
    SwitchedOff,
    /// The kernel was built without `CONFIG_SECRETMEM`, or is older than 5.14.
    #[error("This kernel has no memfd_secret; it needs CONFIG_SECRETMEM=y (Linux 5.14 or newer)")]
    NotBuilt,
    /// The call is forbidden, most often by a seccomp filter of a container.
    #[error("memfd_secret is forbidden to this process; allow it in the seccomp or LSM policy")]
    Forbidden(#[source] io::Error),
    /// Anything else.
    #[error("memfd_secret does not work here")]
    Other(#[source] io::Error),
}

/// Asks the kernel for an empty secret file and gives it back at once.
///
/// # Errors
/// [`Unavailable`], with the reason as far as the kernel tells it.
pub fn probe() -> Result<(), Unavailable> {
    match memfd_secret(Mode::empty()) {
        Ok(_) => Ok(()),
        Err(err) => Err(explain(err, built_in())),
    }
}

/// The modes that this kernel knows: empty on one without the secretvmm series.
///
/// A mode that is known may still be refused for want of memory, or of the right to use the pool.
///
/// # Errors
/// [`Unavailable`]: the kernel gives no secret memory at all.
///
/// ```
/// match secretmem::features() {
///     Ok(modes) => println!("secret memory works here, with the modes {modes}"),
///     Err(error) => println!("{error}"),
/// }
/// ```
pub fn features() -> Result<Mode, Unavailable> {
    probe()?;
    let known = |mode: &Mode| match memfd_secret(*mode) {
        Ok(_) => true,
        Err(err) => err.raw_os_error() == Some(libc::EPERM),
    };
    Ok(Mode::all().iter().filter(known).collect())
}

fn explain(err: io::Error, built_in: bool) -> Unavailable {
    match err.raw_os_error() {
        Some(libc::ENOSYS) if built_in => Unavailable::SwitchedOff,
        Some(libc::ENOSYS) => Unavailable::NotBuilt,
        Some(libc::EPERM | libc::EACCES) => Unavailable::Forbidden(err),
        _ => Unavailable::Other(err),
    }
}

/// The module parameter exists, readable or not, exactly if mm/secretmem.c was built.
fn built_in() -> bool {
    Path::new("/sys/module/secretmem/parameters/enable").exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn explain_each_errno_names_its_remedy() {
        let text = |errno, built| explain(io::Error::from_raw_os_error(errno), built).to_string();
        assert!(text(libc::ENOSYS, true).contains("secretmem.enable=1"));
        assert!(text(libc::ENOSYS, false).contains("CONFIG_SECRETMEM"));
        assert!(text(libc::EPERM, true).contains("seccomp"));
    }
}
