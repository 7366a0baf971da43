//! Filters of system calls, one for each kind of thread (seccomp(2)).
#![allow(unsafe_code)] // seccomp(2) has no safe form for the question whether the kernel has filters.

use std::collections::{BTreeMap, BTreeSet};
use std::{fmt, io};

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};

use super::policy;

/// What a thread is for, which decides what it may ask of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Thread {
    /// The event loop: requests, terminal, host side of the devices.
    Main,
    /// HTTP on the API's socket.
    Api,
    /// Runs the guest, and its devices when it asks for something.
    Vcpu,
    /// Populates guest RAM beside the guest.
    Populate,
}

impl fmt::Display for Thread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Main => "main",
            Self::Api => "api",
            Self::Vcpu => "vCPU",
            Self::Populate => "populating",
        })
    }
}

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
}

/// Whether the VMM's threads are confined.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Seccomp {
    /// Each to what it needs.
    #[default]
    On,
    /// `--no-seccomp`.
    Off,
}

impl Seccomp {
    /// Whether this kernel can do it, asked before there is anything to clean up.
    ///
    /// # Errors
    /// [`Error::Unsupported`]
    pub fn check(self) -> Result<(), Error> {
        if self == Self::Off {
            return Ok(());
        }
        let action = libc::SECCOMP_RET_TRAP;
        // SAFETY: the kernel reads one word that we own.
        let answer =
            unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, std::ptr::from_ref(&action)) };
        if answer == 0 { Ok(()) } else { Err(Error::Unsupported(io::Error::last_os_error())) }
    }

    /// Takes from the calling thread, and from those that it starts, all system calls but those of
    /// `thread`. It cannot be undone.
    ///
    /// # Errors
    /// [`Error::Install`]; the thread is as it was, except that it and its children gain no
    /// privileges by execve(2) any more.
    pub fn confine(self, thread: Thread) -> Result<(), Error> {
        if self == Self::Off {
            return Ok(());
        }
        let installed = program(thread).and_then(|program| seccompiler::apply_filter(&program));
        installed.map_err(|source| Error::Install { thread, source })
    }
}

fn program(thread: Thread) -> Result<BpfProgram, seccompiler::Error> {
    Ok(policy::of(thread).filter()?.try_into()?)
}

/// System calls that are allowed.
#[derive(Debug, Default)]
pub(super) struct Policy {
    any: BTreeSet<i64>,
    only: BTreeMap<i64, Vec<Condition>>,
}

/// What one argument must be like; arguments that matter are `int`s.
#[derive(Debug)]
struct Condition {
    argument: u8,
    comparison: SeccompCmpOp,
    value: u64,
}

impl Policy {
    /// Allows `calls` with any arguments.
    pub(super) fn any(mut self, calls: &[i64]) -> Self {
        self.any.extend(calls);
        self
    }

    /// Allows `call` if its argument number `argument`, counted from 0, is one of `values`.
    pub(super) fn only(mut self, call: i64, argument: u8, values: &[u64]) -> Self {
        let conditions = self.only.entry(call).or_default();
        conditions.extend(values.iter().map(|value| Condition {
            argument,
            comparison: SeccompCmpOp::Eq,
            value: *value,
        }));
        self
    }

    /// Allows `call` if its argument number `argument` has none of the bits of `mask`.
    pub(super) fn without(mut self, call: i64, argument: u8, mask: u64) -> Self {
        let conditions = self.only.entry(call).or_default();
        conditions.push(Condition { argument, comparison: SeccompCmpOp::MaskedEq(mask), value: 0 });
        self
    }

    fn filter(self) -> Result<SeccompFilter, seccompiler::Error> {
        // A call with no rules is allowed with any arguments.
        let mut rules: BTreeMap<i64, Vec<SeccompRule>> = self.any.iter().map(|call| (*call, Vec::new())).collect();
        for (call, conditions) in self.only {
            let conditions = conditions.into_iter().map(Condition::rule);
            rules.insert(call, conditions.collect::<Result<_, _>>()?);
        }
        let (forbidden, allowed) = (SeccompAction::Trap, SeccompAction::Allow);
        Ok(SeccompFilter::new(rules, forbidden, allowed, TargetArch::x86_64)?)
    }
}

impl Condition {
    fn rule(self) -> Result<SeccompRule, seccompiler::Error> {
        let Self { argument, comparison, value } = self;
        let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, comparison, value)?;
        Ok(SeccompRule::new(vec![condition])?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_name_each_call_in_one_way() {
        for thread in [Thread::Main, Thread::Api, Thread::Vcpu] {
            let policy = policy::of(thread);
            let twice: Vec<_> = policy.only.keys().filter(|call| policy.any.contains(call)).collect();
            assert!(twice.is_empty(), "{thread}: {twice:?}");
            assert!(program(thread).is_ok(), "{thread}");
        }
    }
}
