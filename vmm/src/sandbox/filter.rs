// SPDX-License-Identifier: Apache-2.0
//! What a filter of system calls says: for which kind of thread, and which calls with which arguments.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use seccompiler::{
    SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};

/// What a thread is for, which decides what it may ask of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Thread {
    /// The process before there is any of these, and with it all of them.
    Start,
    /// The event loop: requests, terminal, host side of the devices.
    Main,
    /// HTTP on the API's socket.
    Api,
    /// Runs the guest, and its devices when it asks for something.
    Vcpu,
    /// Populates guest RAM beside the guest.
    Populate,
}

impl Thread {
    /// Every kind.
    #[cfg(test)]
    pub(super) const ALL: [Self; 5] = [Self::Start, Self::Main, Self::Api, Self::Vcpu, Self::Populate];
}

impl fmt::Display for Thread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Start => "first",
            Self::Main => "main",
            Self::Api => "api",
            Self::Vcpu => "vCPU",
            Self::Populate => "populating",
        })
    }
}

/// System calls that are allowed.
#[derive(Debug, Default)]
pub(super) struct Policy {
    any: BTreeSet<i64>,
    only: BTreeMap<i64, Vec<Conditions>>,
}

/// What arguments must be like, all of them.
type Conditions = Vec<Condition>;

/// What one argument must be like.
#[derive(Debug)]
pub(super) struct Condition {
    argument: u8,
    width: SeccompCmpArgLen,
    comparison: SeccompCmpOp,
    value: u64,
}

/// An `int` is this. The kernel ignores the upper half.
pub(super) fn is(argument: u8, value: u64) -> Condition {
    Condition { argument, width: SeccompCmpArgLen::Dword, comparison: SeccompCmpOp::Eq, value }
}

/// A pointer is null: all 64 bits count.
pub(super) fn is_null(argument: u8) -> Condition {
    Condition { argument, width: SeccompCmpArgLen::Qword, comparison: SeccompCmpOp::Eq, value: 0 }
}

/// An `int` has none of the bits of `mask`.
fn lacks(argument: u8, mask: u64) -> Condition {
    Condition { argument, width: SeccompCmpArgLen::Dword, comparison: SeccompCmpOp::MaskedEq(mask), value: 0 }
}

impl Policy {
    /// Allows `calls` with any arguments.
    pub(super) fn any(mut self, calls: &[i64]) -> Self {
        self.any.extend(calls);
        self
    }

    /// Allows `call` if its argument number `argument`, an `int` counted from 0, is one of `values`.
    pub(super) fn only(mut self, call: i64, argument: u8, values: &[u64]) -> Self {
        let conditions = self.only.entry(call).or_default();
        conditions.extend(values.iter().map(|value| vec![is(argument, *value)]));
        self
    }

    /// Allows `call` if all `conditions` hold.
    pub(super) fn if_all(mut self, call: i64, conditions: Conditions) -> Self {
        self.only.entry(call).or_default().push(conditions);
        self
    }

    /// Allows `call` if its argument number `argument` has none of the bits of `mask`.
    pub(super) fn without(self, call: i64, argument: u8, mask: u64) -> Self {
        self.if_all(call, vec![lacks(argument, mask)])
    }

    #[cfg(test)]
    pub(super) fn named_twice(&self) -> Vec<i64> {
        self.only.keys().filter(|call| self.any.contains(call)).copied().collect()
    }

    pub(super) fn filter(self) -> Result<SeccompFilter, seccompiler::Error> {
        // A call with no rules is allowed with any arguments.
        let mut rules: BTreeMap<i64, Vec<SeccompRule>> = self.any.iter().map(|call| (*call, Vec::new())).collect();
        for (call, conditions) in self.only {
            let alternatives = conditions
                .into_iter()
                .map(|all| SeccompRule::new(all.into_iter().map(Condition::compiled).collect::<Result<_, _>>()?));
            rules.insert(call, alternatives.collect::<Result<_, _>>()?);
        }
        let (forbidden, allowed) = (SeccompAction::Trap, SeccompAction::Allow);
        Ok(SeccompFilter::new(rules, forbidden, allowed, TargetArch::x86_64)?)
    }
}

impl Condition {
    fn compiled(self) -> Result<SeccompCondition, seccompiler::BackendError> {
        let Self { argument, width, comparison, value } = self;
        SeccompCondition::new(argument, width, comparison, value)
    }
}
