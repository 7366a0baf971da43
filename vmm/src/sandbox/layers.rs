// SPDX-License-Identifier: Apache-2.0
//! The layers of the sandbox, each of which can be left out.

use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

use secretvmm_evidence::Layer;

use super::error::Error;
use super::files::Files;
use super::filter::Thread;
use super::{landlock, seccomp, speculation};

/// Which layers the VMM's threads are confined by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sandbox {
    /// A filter of system calls for each kind of thread (seccomp(2)).
    pub seccomp: bool,
    /// Rules for files, signals and sockets (landlock(7)).
    pub landlock: bool,
    /// No thread has rights of root's (capabilities(7)).
    pub capabilities: bool,
    /// vCPUs share a core with each other only.
    pub core: bool,
}

impl Default for Sandbox {
    fn default() -> Self {
        Self { seccomp: true, landlock: true, capabilities: true, core: true }
    }
}

impl Sandbox {
    /// Whether this kernel can do it, asked before there is anything to clean up.
    ///
    /// # Errors
    /// [`Error::Unsupported`], [`Error::NoLandlock`]
    fn check(self) -> Result<(), Error> {
        if self.seccomp {
            seccomp::check().map_err(Error::Unsupported)?;
        }
        if self.landlock { landlock::check().map_err(Error::NoLandlock) } else { Ok(()) }
    }

    /// Takes from the calling thread, and from those that it starts, the system calls that no start needs. To be called
    /// before anything is read that somebody else wrote.
    ///
    /// # Errors
    /// As [`Self::check`]; and [`Error::Install`].
    pub fn begin(self) -> Result<(), Error> {
        self.check()?;
        self.filter(Thread::Start)
    }

    /// Takes from the main thread, and from those that it starts from now on, all files but these. It cannot be undone.
    ///
    /// Before the vCPUs' threads start: some kernels let no thread signal one that is not confined with it.
    ///
    /// # Errors
    /// [`Error::Landlock`]
    pub fn confine_files(self, files: &Files) -> Result<(), Error> {
        if self.landlock { landlock::restrict(files).map_err(Error::Landlock) } else { Ok(()) }
    }

    /// Takes from the calling thread, and from those that it starts, what `thread` does not need. It cannot be undone.
    ///
    /// # Errors
    /// A layer could not be put up; the thread may have lost what other layers take.
    pub fn confine(self, thread: Thread) -> Result<(), Error> {
        if self.capabilities {
            give_up_capabilities().map_err(|err| Error::Capabilities(err.into()))?;
        }
        if thread == Thread::Vcpu {
            speculation::keep_from_others();
        }
        if thread != Thread::Main {
            // The others open nothing.
            self.confine_files(&Files::default())?;
        }
        self.filter(thread)
    }

    /// Has the calling thread, and those that it starts from now on, share a core with each other only. Whether that
    /// is so: a host may lack it.
    pub fn own_core(self) -> bool {
        self.core && speculation::own_core()
    }

    /// Has the calling thread share a core with none of those that it has started since [`Self::own_core`].
    pub fn leave_core(self) {
        if self.core {
            speculation::leave_core();
        }
    }

    /// What a token says. `core`: what [`Self::own_core`] has said.
    pub fn layers(self, core: bool) -> Vec<Layer> {
        let all = [
            (Layer::Seccomp, self.seccomp),
            (Layer::Landlock, self.landlock),
            (Layer::Capabilities, self.capabilities),
            (Layer::Core, core),
        ];
        all.into_iter().filter_map(|(layer, on)| on.then_some(layer)).collect()
    }

    fn filter(self, thread: Thread) -> Result<(), Error> {
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
