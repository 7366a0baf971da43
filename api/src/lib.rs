// SPDX-License-Identifier: Apache-2.0
//! The API of `secretvmm`: Firecracker's paths, methods, names and statuses, so that a client
//! written for it needs no second spelling.
//!
//! ```text
//!   socket -> server -> request: Action -> [Call] -> VMM
//!                    <- status and JSON <- Reply or Fault
//! ```
//!
//! An unknown field is an error, never ignored.

// They wait for whoever reads, and panic when nobody does.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

mod action;
#[cfg(feature = "client")]
pub mod client;
mod json;
#[cfg(feature = "openapi")]
pub mod openapi;
pub mod refused;
mod request;
mod resources;
pub mod server;

pub use action::{Action, Any, Call, Fault, Live, Reply, Setup};
pub use request::{Request, parse};
pub use resources::*;
