// SPDX-License-Identifier: Apache-2.0
//! Why a thread was not confined.

use std::io;

use super::filter::Thread;

/// Why a thread could not be confined.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A kernel without CONFIG_SECCOMP_FILTER.
    #[error("This kernel cannot filter system calls; boot one with CONFIG_SECCOMP_FILTER, or give --no-seccomp")]
    Unsupported(#[source] io::Error),
    /// The filter could not be made or installed.
    #[error("The system calls of the {thread} thread could not be filtered; --no-seccomp runs without")]
    Install {
        /// Whose they are.
        thread: Thread,
        /// What went wrong.
        source: seccompiler::Error,
    },
    /// The kernel keeps them.
    #[error("Capabilities could not be given up; --keep-capabilities runs with them")]
    Capabilities(#[source] io::Error),
}
