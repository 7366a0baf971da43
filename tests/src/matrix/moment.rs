// SPDX-License-Identifier: Apache-2.0
//! When in a guest's life it is probed.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// A moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Moment {
    /// At its shell prompt.
    Booted,
    /// While it writes to its disk and to its network.
    Io,
    /// After it rebooted, which ends the VMM, and was started again.
    Rebooted,
}
