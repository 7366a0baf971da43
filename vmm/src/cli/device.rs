// SPDX-License-Identifier: Apache-2.0
//! Devices as flags describe them: words with commas between them.

use std::path::PathBuf;

use secretvmm_api::{CacheType, Drive, MacAddr, NetworkInterface, Vsock};

/// `--disk`.
#[derive(Debug, Clone)]
pub(super) struct Disk {
    path: PathBuf,
    read_only: bool,
}

/// `--net`.
#[derive(Debug, Clone)]
pub(super) struct Net {
    tap: String,
    mac: Option<MacAddr>,
}

/// `PATH[,ro]`; the path may have commas.
pub(super) fn parse_disk(text: &str) -> Result<Disk, &'static str> {
    let (path, read_only) = text.strip_suffix(",ro").map_or((text, false), |path| (path, true));
    if path.is_empty() || path.ends_with(",rw") {
        return Err("give a path, and ,ro behind it for a disk that the guest cannot write");
    }
    Ok(Disk { path: path.into(), read_only })
}

/// `tap=NAME[,mac=MAC]`.
pub(super) fn parse_net(text: &str) -> Result<Net, String> {
    let (mut tap, mut mac) = (None, None);
    for word in text.split(',') {
        match word.split_once('=') {
            Some(("tap", name)) => tap = Some(name.to_owned()),
            Some(("mac", address)) => mac = Some(address.parse()?),
            _ => return Err(format!("{word:?} is neither tap=NAME nor mac=MAC")),
        }
    }
    Ok(Net { tap: tap.ok_or("give the TAP's name as tap=NAME")?, mac })
}

/// `cid=N,uds=PATH`; the path may have commas.
pub(super) fn parse_vsock(text: &str) -> Result<Vsock, &'static str> {
    const HELP: &str = "give cid=N,uds=PATH, with N from 3";
    let (cid, path) = text.strip_prefix("cid=").and_then(|text| text.split_once(",uds=")).ok_or(HELP)?;
    let guest_cid = cid.parse().map_err(|_| HELP)?;
    Ok(Vsock { vsock_id: None, guest_cid, uds_path: path.into() })
}

/// The drives in their order. The first is the root device, unless `cmdline` names another.
pub(super) fn drives(disks: Vec<Disk>, cmdline: &str) -> Vec<Drive> {
    let has_root = cmdline.split_whitespace().any(|word| word.starts_with("root="));
    let drive = |(index, disk): (usize, Disk)| Drive {
        drive_id: format!("disk{index}"),
        is_root_device: index == 0 && !has_root,
        partuuid: None,
        // What whoever types a path means: a guest's sync has reached the disk.
        cache_type: CacheType::Writeback,
        is_read_only: Some(disk.read_only),
        path_on_host: Some(disk.path),
        rate_limiter: None,
        io_engine: None,
        socket: None,
    };
    disks.into_iter().enumerate().map(drive).collect()
}

/// The network interfaces in their order.
pub(super) fn networks(nets: Vec<Net>) -> Vec<NetworkInterface> {
    let network = |(index, net): (usize, Net)| NetworkInterface {
        iface_id: format!("net{index}"),
        host_dev_name: net.tap,
        guest_mac: net.mac,
        mtu: None,
        rx_rate_limiter: None,
        tx_rate_limiter: None,
    };
    nets.into_iter().enumerate().map(network).collect()
}
