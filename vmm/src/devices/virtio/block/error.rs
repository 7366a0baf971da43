// SPDX-License-Identifier: Apache-2.0
//! Why there is no such drive.

use std::io;
use std::path::PathBuf;

use secretvmm_api::refused;

/// Why a drive could not be opened or changed. A drive that exists stays as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Neither file nor socket.
    #[error("Drive {drive} has nothing behind it; give path_on_host")]
    NoPath {
        /// The drive's id.
        drive: String,
    },
    /// vhost-user.
    #[error("Drive {drive}: {}", refused::VHOST_USER)]
    VhostUser {
        /// The drive's id.
        drive: String,
    },
    /// The file is not there, or not for this user.
    #[error("Drive {drive}: {path} cannot be opened for {access}; {advice}")]
    Open {
        /// The drive's id.
        drive: String,
        /// The file.
        path: PathBuf,
        /// What for.
        access: &'static str,
        /// What may help.
        advice: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// Something that holds no blocks.
    #[error("Drive {drive}: {path} is a {kind}; give a regular file or a block device")]
    Kind {
        /// The drive's id.
        drive: String,
        /// The file.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// The size cannot be had.
    #[error("Drive {drive}: {path} does not tell its size; check the device behind it")]
    Size {
        /// The drive's id.
        drive: String,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Less than a sector.
    #[error("Drive {drive}: {path} has {bytes} bytes and a sector has 512; make it larger (truncate -s SIZE)")]
    Empty {
        /// The drive's id.
        drive: String,
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// The timer of its limits, or another descriptor of its own.
    #[error("No event descriptor for drive {drive}; raise the limit of open files (ulimit -n)")]
    Descriptor {
        /// The drive's id.
        drive: String,
        /// Why not.
        source: io::Error,
    },
}
