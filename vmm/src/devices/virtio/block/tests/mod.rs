// SPDX-License-Identifier: Apache-2.0
//! The device behind its transport, with drivers that keep to the rules and drivers that do not.

#![allow(clippy::unwrap_used, clippy::panic)]

mod disk;
mod files;
mod hostile;
mod refusals;
mod requests;
mod turns;
