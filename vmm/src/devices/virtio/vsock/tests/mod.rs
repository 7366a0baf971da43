// SPDX-License-Identifier: Apache-2.0
//! A guest's driver and host processes, in one thread: the device is called, nothing waits.

#![allow(clippy::unwrap_used, clippy::panic)]

mod dialogue;
mod guest;
mod hostile;
mod limits;
mod streams;
