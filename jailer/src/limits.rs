// SPDX-License-Identifier: Apache-2.0
//! Limits of the VMM's resources.

use nix::errno::Errno;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};

use crate::error::Error;

/// Descriptors that the VMM may have if nothing is said, as with Firecracker's jailer.
const DESCRIPTORS: u64 = 2048;

/// What of, and how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit {
    name: &'static str,
    resource: Resource,
    value: u64,
}

impl Limit {
    const fn new(name: &'static str, resource: Resource, value: u64) -> Self {
        Limit { name, resource, value }
    }

    fn refused(self, source: Errno) -> Error {
        Error::Limit { name: self.name, value: self.value, source }
    }

    /// Reads `NAME=VALUE`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once('=').ok_or("a limit is NAME=VALUE, such as no-file=1024")?;
        let value = value.parse().map_err(|_| format!("{value:?} is not a number"))?;
        match name {
            "fsize" => Ok(Limit::new("fsize", Resource::RLIMIT_FSIZE, value)),
            "no-file" => Ok(Limit::new("no-file", Resource::RLIMIT_NOFILE, value)),
            "memlock" => Ok(Limit::new("memlock", Resource::RLIMIT_MEMLOCK, value)),
            _ => Err(format!("there is no limit {name:?}; those are fsize, no-file and memlock")),
        }
    }
}

/// Makes room for what was asked for, so that [`set`] cannot fail later.
///
/// # Errors
/// A limit above the one that this process has, which it may not raise.
pub(crate) fn check(asked: &[Limit]) -> Result<(), Error> {
    asked.iter().try_for_each(|limit| {
        let (soft, hard) = getrlimit(limit.resource).map_err(Error::call("getrlimit"))?;
        match limit.value > hard {
            true => setrlimit(limit.resource, soft, limit.value).map_err(|source| limit.refused(source)),
            false => Ok(()),
        }
    })
}

/// Sets what was asked for, later ones over earlier ones, on top of what holds if nothing was.
///
/// Guest memory is locked memory. Its size is the VMM's to know and the control group's to bound, so that limit is as
/// high as this process may set it.
///
/// # Errors
/// The kernel refused a value.
pub(crate) fn set(asked: &[Limit]) -> Result<(), Error> {
    raise_memlock()?;
    let defaults =
        [Limit::new("no-file", Resource::RLIMIT_NOFILE, DESCRIPTORS), Limit::new("core", Resource::RLIMIT_CORE, 0)];
    defaults.iter().chain(asked).try_for_each(|limit| {
        let (_, hard) = getrlimit(limit.resource).map_err(Error::call("getrlimit"))?;
        let value = if asked.contains(limit) { limit.value } else { limit.value.min(hard) };
        setrlimit(limit.resource, value, value).map_err(|source| limit.refused(source))
    })
}

fn raise_memlock() -> Result<(), Error> {
    let resource = Resource::RLIMIT_MEMLOCK;
    if setrlimit(resource, RLIM_INFINITY, RLIM_INFINITY).is_ok() {
        return Ok(());
    }
    let (_, hard) = getrlimit(resource).map_err(Error::call("getrlimit"))?;
    setrlimit(resource, hard, hard).map_err(Error::call("setrlimit"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_and_others_refused_by_name() {
        assert_eq!(Limit::parse("no-file=7").unwrap(), Limit::new("no-file", Resource::RLIMIT_NOFILE, 7));
        for (text, says) in [("no-file", "NAME=VALUE"), ("nofile=7", "memlock"), ("fsize=x", "not a number")] {
            assert!(Limit::parse(text).unwrap_err().contains(says), "{text}");
        }
    }
}
