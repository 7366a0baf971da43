// SPDX-License-Identifier: Apache-2.0
//! The layers of the sandbox, each of which can be left out.

use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

use super::error::Error;
use super::filter::Thread;
use super::seccomp;

/// Which layers the VMM's threads are confined by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sandbox {
    /// A filter of system calls for each kind of thread (seccomp(2)).
    pub seccomp: bool,
    /// No thread has rights of root's (capabilities(7)).
    pub capabilities: bool,
}

impl Default for Sandbox {
    fn default() -> Self {
        Self { seccomp: true, capabilities: true }
    }
}

impl Sandbox {
    /// Whether this kernel can do it, asked before there is anything to clean up.
    ///
    /// # Errors
    /// [`Error::Unsupported`]
    pub fn check(self) -> Result<(), Error> {
        if self.seccomp { seccomp::check().map_err(Error::Unsupported) } else { Ok(()) }
    }

    /// Takes from the calling thread, and from those that it starts, what `thread` does not need. It cannot be undone.
    ///
    /// # Errors
    /// A layer could not be put up; the thread may have lost what other layers take.
    pub fn confine(self, thread: Thread) -> Result<(), Error> {
        if self.capabilities {
            give_up_capabilities().map_err(|err| Error::Capabilities(err.into()))?;
        }
        match self.seccomp {
            true => seccomp::install(thread).map_err(|source| Error::Install { thread, source }),
            false => Ok(()),
        }
    }
}

/// What needs them, limits and TAPs, was done before.
fn give_up_capabilities() -> rustix::io::Result<()> {
    let empty = CapabilitySet::empty();
    let none = CapabilitySets { effective: empty, permitted: empty, inheritable: empty };
    // Where there are none, a filter of whoever started this may forbid to set them.
    if capabilities(None)? == none { Ok(()) } else { set_capabilities(None, none) }
}
