// SPDX-License-Identifier: Apache-2.0
//! Devices and the API that sets them up, as a guest and a client see them.

mod bad_input;
mod blocks;
mod client;
mod command_line;
mod debian;
mod lifecycle;
mod networks;
pub(crate) mod vm;
