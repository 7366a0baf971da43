// SPDX-License-Identifier: Apache-2.0
//! The matrix: every probe, against ordinary memory and against hidden guests, compared with a table of expectations.
//!
//! ```text
//!  targets: anonymous memory, a guest on memfd, guests on secret memory (4K, 2M, boot pool)
//!  moments: just booted, under disk and network I/O, after a reboot of the guest
//!  policy:  yama's ptrace_scope 0, where nothing but the memory refuses, and 3, where policy does
//! ```
//!
//! Targets run one after the other, so that what one has in use does not show in another's column. A probe's answer on
//! ordinary memory is in the table, too: a control that finds nothing is a drift like any other.

pub mod cell;
pub mod expectations;
mod load;
mod moment;
mod run;
mod target;

pub use cell::Cell;
pub use expectations::Yama;
pub use moment::Moment;
pub use run::{Plan, run, verdict};
pub(crate) use target::Running;
pub use target::TargetKind;
