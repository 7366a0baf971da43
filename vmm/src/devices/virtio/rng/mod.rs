// SPDX-License-Identifier: Apache-2.0
//! The entropy device (virtio 1.2, section 5.4): the host kernel's random numbers.

mod device;

pub use device::Rng;
