//! The API of `secretvmm`: Firecracker's paths, methods, names and statuses, so that a client
//! written for it needs no second spelling.
//!
//! ```text
//!   socket -> server -> request: Action -> [Call] -> VMM
//!                    <- status and JSON <- Reply or Fault
//! ```
//!
//! An unknown field is an error, never ignored.
//!
//! [`evidence`] is what a VM can show to somebody far away, and how that is verified. It needs
//! nothing of HTTP: without the feature `http` the crate has only that and the resources.

#[cfg(feature = "http")]
mod action;
#[cfg(feature = "client")]
pub mod client;
pub mod evidence;
#[cfg(feature = "http")]
mod json;
#[cfg(feature = "openapi")]
pub mod openapi;
#[cfg(feature = "http")]
pub mod refused;
#[cfg(feature = "http")]
mod request;
mod resources;
#[cfg(feature = "http")]
pub mod server;

#[cfg(feature = "http")]
pub use action::{Action, Call, Fault, Reply};
#[cfg(feature = "http")]
pub use request::{Request, parse};
pub use resources::*;
