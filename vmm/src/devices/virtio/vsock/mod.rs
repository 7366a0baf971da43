// SPDX-License-Identifier: Apache-2.0
//! The socket device (virtio 1.2, section 5.10): stream connections between processes in the guest
//! and unix sockets on the host.
//!
//! ```text
//! host process ── connect PATH, "CONNECT 52\n" ──> Client ── REQUEST ──> listener on port 52 in the guest
//! guest process ── connect CID 2, port 53 ── REQUEST ──> connect PATH_53 ──> listener on the host
//!
//!              tx queue → Packet ──┐                ┌── UnixStream ── its Backlog, if the socket is full
//!  guest                           ├── Connection ──┤
//!              rx queue ← Space ───┘                └── Credit, in both directions
//! ```
//!
//! Data goes between guest memory and the sockets with nothing in between, but for what a socket
//! does not take at once: [`backlog::Backlog`] is the one place that holds data of the guest's.

mod backlog;
mod client;
mod config;
mod connection;
mod credit;
mod device;
pub mod listener;
mod metrics;
mod muxer;
mod packet;
mod ports;
#[cfg(test)]
mod tests;

pub use config::{Error, check_cid};
pub use device::Vsock;
