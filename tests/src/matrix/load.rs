// SPDX-License-Identifier: Apache-2.0
//! A guest's disk and network, and what keeps them busy.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;

use crate::guest::{Guest, GuestBuilder};
use crate::network::Tap;

const DISK_SIZE: u64 = 16 << 20;

/// A disk and a TAP, gone when dropped.
pub(super) struct Load {
    disk: PathBuf,
    tap: Tap,
}

impl Load {
    pub(super) fn new() -> Result<Self> {
        let disk = PathBuf::from("/dev/shm/secretvmm-matrix-disk");
        fs::File::create(&disk)?.set_len(DISK_SIZE)?;
        Ok(Load { disk, tap: Tap::new("matrix0", "172.31.7.1/24")? })
    }

    /// Gives them to a guest.
    pub(super) fn attach(&self, guest: GuestBuilder) -> GuestBuilder {
        let tap = format!("tap={}", self.tap.name);
        guest.arguments([PathBuf::from("--disk"), self.disk.clone(), "--net".into(), tap.into()])
    }

    /// Lets the guest write to both from now on.
    pub(super) fn start(guest: &mut Guest) -> Result<()> {
        guest
            .shell("ip addr add 172.31.7.2/24 dev eth0; ip link set eth0 up; ping -c 1 -W 10 172.31.7.1 >/dev/null")?;
        for load in ["dd if=/dev/urandom of=/dev/vda bs=64k count=32 conv=fsync", "ping -c 20 -A -s 1400 172.31.7.1"] {
            // In braces, since the harness appends to the line.
            guest.shell(&format!("{{ while :; do {load}; done >/dev/null 2>&1 & }}"))?;
        }
        Ok(())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // It lies on the nested host's tmpfs and goes with it.
        let _ = fs::remove_file(&self.disk);
    }
}
