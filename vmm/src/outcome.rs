// SPDX-License-Identifier: Apache-2.0
//! How a VM ends, and what the shell sees of it.

use std::sync::Arc;

/// Wrong usage, also of a configuration file (clap's own choice, too).
pub const USAGE: u8 = 2;
/// Nothing was started: preflight refused, or guest memory could not be had.
pub const PREFLIGHT: u8 = 3;
/// The VMM failed.
pub const FAILURE: u8 = 1;
/// A thread made a system call that its filter forbids; Firecracker's code.
pub const BAD_SYSCALL: u8 = 148;

/// How a VM ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The guest powered itself off (ACPI S5).
    PowerOff,
    /// The guest rebooted (i8042 or ACPI reset register).
    Reset,
    /// The guest kernel panicked and said so over pvpanic.
    Panic,
    /// The guest triple-faulted.
    TripleFault,
    /// The user typed Ctrl-A x.
    Quit,
    /// This signal asked the VMM to stop.
    Signal(i32),
    /// The guest was asked to shut down and took too long (`--shutdown-timeout`).
    TimeLimit,
    /// KVM or the host failed.
    Failure(Arc<RunError>),
}

impl Outcome {
    /// What the shell sees.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::PowerOff | Self::Reset | Self::Quit => 0,
            Self::Failure(_) => FAILURE,
            Self::TripleFault => 4,
            Self::Panic => 5,
            Self::TimeLimit => 6,
            Self::Signal(signal) => 128_u8.saturating_add(u8::try_from(*signal).unwrap_or(u8::MAX)),
        }
    }
}

/// Why a vCPU cannot go on.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum RunError {
    /// `KVM_RUN` said EFAULT.
    #[error(
        "Guest memory could not be mapped into the guest (KVM_RUN gave EFAULT at rip {rip:#x}): either the host kernel \
         cannot map secret memory into a guest (it needs the secretvmm series, see kernel-patches/), or the host's \
         memory or this user's locked-memory limit ran out (see `ulimit -l` and the host's kernel log)"
    )]
    MemoryFault {
        /// Instruction pointer of the guest.
        rip: u64,
    },
    /// The processor refused to enter the guest.
    #[error("The processor refused to enter the guest (KVM_EXIT_FAIL_ENTRY, hardware reason {reason:#x}, CPU {cpu})")]
    FailEntry {
        /// The hardware's code.
        reason: u64,
        /// Host CPU.
        cpu: u32,
    },
    /// KVM gave up.
    #[error("KVM gave up on the guest (KVM_EXIT_INTERNAL_ERROR, suberror {suberror} at rip {rip:#x})")]
    Internal {
        /// KVM_INTERNAL_ERROR_*.
        suberror: u32,
        /// Instruction pointer of the guest.
        rip: u64,
    },
    /// An exit that this VMM never asked for.
    #[error("KVM left the guest for a reason that this VMM does not know ({0})")]
    Unexpected(String),
    /// Any other errno.
    #[error("KVM could not run the guest")]
    Run(#[source] kvm_ioctls::Error),
    /// The thread has not entered the guest.
    #[error("{0}")]
    NotConfined(String),
    /// A bug of ours.
    #[error("A vCPU thread panicked; this is a bug in secretvmm")]
    Panicked,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_code_follows_the_documented_table() {
        for (outcome, expected) in [
            (Outcome::PowerOff, 0),
            (Outcome::Reset, 0),
            (Outcome::Quit, 0),
            (Outcome::TripleFault, 4),
            (Outcome::Panic, 5),
            (Outcome::TimeLimit, 6),
            (Outcome::Signal(libc::SIGTERM), 143),
            (Outcome::Signal(libc::SIGHUP), 129),
        ] {
            assert_eq!(outcome.exit_code(), expected, "{outcome:?}");
        }
    }
}
