// SPDX-License-Identifier: Apache-2.0
//! Hostile guests against the VMM as it is shipped, all filters on.
//!
//! The guest (`guest/`, a program of its own that needs no operating system) makes up what it does from a seed, round by
//! round: registers, rings and ports of every width, resets, connections, frames. [`Attack`] starts a VMM with that
//! guest and every device, disturbs it from the host's side meanwhile ([`neighbours`]), and measures ([`watch`]).
//! [`Outcome::judge`] says what must never be.

mod attack;
mod machine;
mod neighbours;
mod netlink;
mod outcome;
mod sink;
mod watch;

pub use attack::Attack;
pub use machine::{Backing, End};
pub use neighbours::Company;
pub use outcome::Outcome;
pub use sink::Sink;
