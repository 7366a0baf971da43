// SPDX-License-Identifier: Apache-2.0
//! The network device (virtio 1.2, section 5.1) on a TAP of the host.
//!
//! Frames go between the TAP and guest memory in one system call each, without a copy in the VMM:
//!
//! ```text
//! guest ── transmit queue ──> chain ──── writev ───> TAP
//! guest <── receive queue ── buffers <── readv ───── TAP
//!               frames to and from the metadata service take a detour
//! ```

mod buffers;
mod detour;
mod device;
mod metrics;
mod offload;
mod tap;

pub use device::Net;
pub use tap::Error;

/// The size of the header before every frame (virtio 1.2, 5.1.6): struct virtio_net_hdr_v1.
const HEADER_SIZE: usize = 12;
