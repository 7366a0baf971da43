// SPDX-License-Identifier: Apache-2.0
//! What the host's network stack may leave to the guest.

use std::time::{Duration, Instant};

use libc::c_uint;
use virtio_bindings::virtio_net::{
    VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_GUEST_TSO6, VIRTIO_NET_F_GUEST_UFO,
};

use super::tap::Tap;

/// The kernel takes its network lock for each change and tells everybody who listens to it.
const PAUSE: Duration = Duration::from_millis(250);

/// The flags (TUN_F_…) of a TAP, which begin with none, and those that its driver takes.
#[derive(Debug, Default)]
pub(super) struct Offload {
    set: c_uint,
    wanted: c_uint,
    /// No change before this moment, however often the driver resets its device.
    not_before: Option<Instant>,
}

impl Offload {
    /// A driver has taken these features.
    pub(super) fn want(&mut self, features: u64) {
        self.wanted = flags(features);
    }

    /// Tells the TAP, if it has not been told. How long to wait if it was told something else just now.
    pub(super) fn apply(&mut self, tap: &Tap, now: Instant) -> Option<Duration> {
        if self.set == self.wanted {
            return None;
        }
        if let Some(not_before) = self.not_before.filter(|not_before| now < *not_before) {
            return Some(not_before - now);
        }
        self.not_before = Some(now + PAUSE);
        self.set = self.wanted;
        if let Err(err) = tap.set_offload(self.wanted).or_else(|_| tap.set_offload(0)) {
            // The frames are then finished by the host: slower, and right.
            log::warn!("A TAP does without offloads: {err}");
        }
        None
    }
}

/// As the kernel calls it. It refuses segmentation without checksums.
fn flags(features: u64) -> c_uint {
    if features & 1 << VIRTIO_NET_F_GUEST_CSUM == 0 {
        return 0;
    }
    let flags = [
        (VIRTIO_NET_F_GUEST_TSO4, libc::TUN_F_TSO4),
        (VIRTIO_NET_F_GUEST_TSO6, libc::TUN_F_TSO6),
        (VIRTIO_NET_F_GUEST_UFO, libc::TUN_F_UFO),
    ];
    flags.iter().filter(|(bit, _)| features & 1 << bit != 0).fold(libc::TUN_F_CSUM, |all, (_, flag)| all | flag)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs::File;

    use super::*;

    const CSUM: u64 = 1 << VIRTIO_NET_F_GUEST_CSUM;
    const TSO: u64 = 1 << VIRTIO_NET_F_GUEST_TSO4 | 1 << VIRTIO_NET_F_GUEST_TSO6;

    #[test]
    fn flags_follow_the_driver_and_never_lack_checksums() {
        assert_eq!(flags(TSO), 0);
        assert_eq!(flags(CSUM), libc::TUN_F_CSUM);
        let all = CSUM | TSO | 1 << VIRTIO_NET_F_GUEST_UFO;
        assert_eq!(flags(all), libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_UFO);
    }

    #[test]
    fn tap_is_told_what_is_new_and_not_more_than_a_few_times_a_second() {
        let tap = Tap::from(File::open("/dev/null").unwrap());
        let mut offload = Offload::default();
        let start = Instant::now();
        let mut told = 0;
        // A thousand resets in a second, each with other features.
        for reset in 0..1000_u32 {
            let now = start + Duration::from_millis(reset.into());
            let before = offload.set;
            offload.want(if reset % 2 == 0 { CSUM } else { CSUM | TSO });
            let wait = offload.apply(&tap, now);
            told += u32::from(offload.set != before);
            assert_eq!(wait.is_none(), offload.set == offload.wanted);
            assert!(wait.is_none_or(|wait| !wait.is_zero() && wait <= PAUSE));
        }
        assert!((2..=4).contains(&told), "{told}");
        // The last word is heard in the end, and once.
        let later = start + Duration::from_secs(2);
        offload.want(CSUM | TSO);
        assert_eq!(offload.apply(&tap, later), None);
        assert_eq!((offload.set, offload.not_before), (flags(CSUM | TSO), offload.not_before));
        let not_before = offload.not_before;
        assert_eq!(offload.apply(&tap, later + PAUSE), None);
        assert_eq!(offload.not_before, not_before);
    }
}
