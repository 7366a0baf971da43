// SPDX-License-Identifier: Apache-2.0
//! What a nested host is to do.

use std::ffi::OsString;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::capture::Capture;
use super::machine::MachineArgs;

/// What to boot and to run.
pub(crate) struct Spec {
    pub(crate) kernel: PathBuf,
    /// A folder with the modules to load and their `order`, for kernels that
    /// have them.
    pub(crate) modules: Option<PathBuf>,
    pub(crate) machine: MachineArgs,
    /// The command and its arguments; never empty.
    pub(crate) command: Vec<OsString>,
    /// Set for the command, on top of this process's environment.
    pub(crate) environment: Vec<(OsString, OsString)>,
    /// Ends the host after this time.
    pub(crate) timeout: Option<Duration>,
    pub(crate) verbose: bool,
    pub(crate) input: Input,
    /// Keeps a copy of the command's standard output, and passes on whole lines.
    pub(crate) copy: Option<Capture>,
    /// A unix socket to make at which QEMU takes orders (QMP).
    pub(crate) monitor: Option<PathBuf>,
}

/// Where the command's standard input comes from.
#[derive(Clone, Default)]
pub(crate) enum Input {
    /// There is none.
    #[default]
    Nothing,
    /// This process's own, and a terminal if that is one.
    Own,
    /// What another thread of xtask sends, which is passed on as it comes.
    Stream(Arc<UnixStream>),
}
