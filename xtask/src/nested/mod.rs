// SPDX-License-Identifier: Apache-2.0
//! The nested host: a machine in QEMU that sees this machine's files and runs
//! one command as root, whose output and exit code come back as they are.
//!
//! ```text
//!  xtask host ── frames over a virtio-serial port ── xtask (first process inside) ── COMMAND
//!      │                                                 ▲
//!      └─ QEMU: kernel + initramfs ── /init: 9p, overlay ┘
//! ```
//!
//! One port carries everything both ways (`channel`), so that output, its end
//! and the exit code arrive in order and nothing is lost when QEMU is ended.

mod capture;
pub(crate) mod channel;
mod cpu;
pub(crate) mod inside;
pub(crate) mod log;
mod machine;
mod outcome;
pub(crate) mod program;
mod pty;
mod qemu;
mod session;
mod spec;
mod stale;
mod terminal;

pub(crate) use capture::Capture;
pub(crate) use cpu::count as at_once;
pub(crate) use machine::MachineArgs;
pub(crate) use outcome::{Failure, Outcome, host_failure};
pub(crate) use session::run;
pub(crate) use spec::{Input, Spec};

/// The hidden command by which xtask runs as the first process inside.
pub(crate) const INSIDE: &str = "__inside";
