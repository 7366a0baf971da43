// SPDX-License-Identifier: Apache-2.0
//! What a filter of system calls says: for which kind of thread, and which calls with which arguments.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

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
pub(super) type Conditions = Vec<Condition>;

/// What one argument must be like: its lower half, of which `mask` counts.
#[derive(Debug)]
pub(super) struct Condition {
    pub(super) argument: u8,
    pub(super) mask: u32,
    pub(super) value: u32,
    /// The upper half counts, too, and has to be 0.
    pub(super) wide: bool,
}

/// An `int` is this. The kernel ignores the upper half.
pub(super) fn is(argument: u8, value: u32) -> Condition {
    Condition { argument, mask: u32::MAX, value, wide: false }
}

/// A pointer is null: all 64 bits count.
pub(super) fn is_null(argument: u8) -> Condition {
    Condition { argument, mask: u32::MAX, value: 0, wide: true }
}

/// An `int` has none of the bits of `mask`.
fn lacks(argument: u8, mask: u32) -> Condition {
    Condition { argument, mask, value: 0, wide: false }
}

impl Policy {
    /// Allows `calls` with any arguments.
    pub(super) fn any(mut self, calls: &[i64]) -> Self {
        self.any.extend(calls);
        self
    }

    /// Allows `call` if its argument number `argument`, an `int` counted from 0, is one of `values`.
    pub(super) fn only(mut self, call: i64, argument: u8, values: &[u32]) -> Self {
        let conditions = self.only.entry(call).or_default();
        conditions.extend(values.iter().map(|value| vec![is(argument, *value)]));
        self
    }

    /// Allows these requests of drivers (ioctl(2)), of which the kernel takes the lower half.
    pub(super) fn requests(self, requests: &[u64]) -> Self {
        let requests: Vec<_> = requests.iter().map(|request| *request as u32).collect();
        self.only(libc::SYS_ioctl, 1, &requests)
    }

    /// Allows `call` if all `conditions` hold.
    pub(super) fn if_all(mut self, call: i64, conditions: Conditions) -> Self {
        self.only.entry(call).or_default().push(conditions);
        self
    }

    /// Allows `call` if its argument number `argument` has none of the bits of `mask`.
    pub(super) fn without(self, call: i64, argument: u8, mask: u32) -> Self {
        self.if_all(call, vec![lacks(argument, mask)])
    }

    #[cfg(test)]
    pub(super) fn named_twice(&self) -> Vec<i64> {
        self.only.keys().filter(|call| self.any.contains(call)).copied().collect()
    }

    /// The numbers of what is allowed, in order, and the arguments with which; None: with any.
    pub(super) fn calls(&self) -> BTreeMap<u32, Option<&[Conditions]>> {
        let any = self.any.iter().map(|call| (number(*call), None));
        let only = self.only.iter().map(|(call, alternatives)| (number(*call), Some(alternatives.as_slice())));
        any.chain(only).collect()
    }
}

/// No call's number has more bits.
fn number(call: i64) -> u32 {
    u32::try_from(call).unwrap_or(u32::MAX)
}
