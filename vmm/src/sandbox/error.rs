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
        source: io::Error,
    },
    /// A kernel without CONFIG_SECURITY_LANDLOCK, or booted without it.
    #[error(
        "This kernel cannot confine files (Landlock); boot one with CONFIG_SECURITY_LANDLOCK and landlock among lsm=, or \
         give --no-landlock"
    )]
    NoLandlock(#[source] landlock::RulesetError),
    /// The kernel refused the rules.
    #[error("Files could not be confined; --no-landlock runs without")]
    Landlock(#[source] landlock::RulesetError),
    /// The kernel keeps them.
    #[error("Capabilities could not be given up; --keep-capabilities runs with them")]
    Capabilities(#[source] io::Error),
}
