// SPDX-License-Identifier: Apache-2.0
//! Loads on block, network and vsock devices, made by the guest (tests/load).

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::Bench;
use super::process::Process;
use crate::network::Tap;
use crate::vsock;

const HOST: &str = "172.31.0.1";
const GUEST: &str = "172.31.0.2";
const DISK_BYTES: u64 = 64 << 20;
const STREAM: usize = 32 << 20;
const TAKES: u16 = 6000;
const GIVES: u16 = 6001;

pub(super) fn measure(bench: &Bench) -> Result<()> {
    let tap = Tap::new("tap-bench", &format!("{HOST}/24"))?;
    let (disk, uds) = (bench.path("disk"), bench.path("v.sock"));
    // Written, so that no read is of a hole.
    File::create(&disk)?.write_all(&vec![0xa5; usize::try_from(DISK_BYTES)?])?;
    let words = format!("bench.host={HOST} ip={GUEST}::{HOST}:255.255.255.0:bench:eth0:off");
    let config = json!({
        "boot-source": bench.boot_source(&words),
        "machine-config": { "vcpu_count": 1, "mem_size_mib": 128 },
        "drives": [{ "drive_id": "disk", "path_on_host": disk, "is_root_device": false, "is_read_only": false }],
        "network-interfaces": [{ "iface_id": "eth0", "host_dev_name": tap.name }],
        "vsock": { "guest_cid": 3, "uds_path": uds },
    });
    let file = bench.path("devices.json");
    fs::write(&file, config.to_string())?;
    for stale in ["v.sock", "v.sock_6000", "v.sock_6001"] {
        // Left by the VMM that was measured before.
        let _ = fs::remove_file(bench.path(stale));
    }

    let (takes, gives) = (TcpListener::bind((HOST, TAKES))?, TcpListener::bind((HOST, GIVES))?);
    thread::spawn(move || take(takes.accept()?.0));
    thread::spawn(move || give(gives.accept()?.0));
    let (takes, gives) = (vsock::listen(&uds, TAKES.into())?, vsock::listen(&uds, GIVES.into())?);
    thread::spawn(move || take(takes.accept()?.0));
    thread::spawn(move || give(gives.accept()?.0));

    let file = file.to_str().context("A path without text")?;
    let mut process = Process::start(bench, ["--no-api", "--config-file", file, "--id", "bench"])?;
    loop {
        process.expect("load: ")?;
        let line = process.expect("\n")?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let [name, nanoseconds, bytes] = words[..] else { bail!("Not a line of the load: {line}") };
        if name == "done" {
            return Ok(());
        }
        bench.figure(&format!("{name}_ns"), nanoseconds.parse()?)?;
        bench.figure(&format!("{name}_bytes"), bytes.parse()?)?;
    }
}

/// Takes a stream and says so.
fn take(mut stream: impl Read + Write) -> std::io::Result<()> {
    let mut chunk = vec![0; 128 << 10];
    let mut taken = 0;
    while taken < STREAM {
        match stream.read(&mut chunk)? {
            0 => break,
            read => taken += read,
        }
    }
    stream.write_all(b"!")
}

/// Gives a stream when asked.
fn give(mut stream: impl Read + Write) -> std::io::Result<()> {
    let chunk = vec![0x5a; 128 << 10];
    stream.read_exact(&mut [0])?;
    (0..STREAM / chunk.len()).try_for_each(|_| stream.write_all(&chunk))
}
