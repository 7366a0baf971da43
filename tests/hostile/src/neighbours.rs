// SPDX-License-Identifier: Apache-2.0
//! What happens on the host's side of a VM meanwhile: API clients, socket clients and listeners, packets.
//!
//! Errors are part of it and mean nothing here: whether the VMM is as it should be is measured elsewhere.

use std::io::{Read, Write};
use std::net::UdpSocket;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{Scope, sleep};
use std::time::Duration;

use anyhow::{Context, Result};
use secretvmm_api::client::Client;
use serde_json::{Value, json};

use crate::Attack;

/// Until when they go on, and what they have done.
#[derive(Debug, Default)]
pub(crate) struct Neighbours {
    pub(crate) over: AtomicBool,
    pub(crate) requests: AtomicU64,
}

/// Who is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Company {
    /// Nobody.
    Nobody,
    /// Who listens for the guest's connections.
    Listeners,
    /// Listeners, clients of every kind, and a network.
    Everybody,
}

impl Neighbours {
    /// Starts them.
    pub(crate) fn start<'a>(&'a self, scope: &'a Scope<'a, '_>, folder: &'a Path, attack: &Attack) -> Result<()> {
        match attack.company {
            Company::Nobody => Ok(()),
            Company::Listeners => self.listen(scope, folder),
            Company::Everybody => self.listen(scope, folder).and_then(|()| self.disturb(scope, folder, attack.seed)),
        }
    }

    /// One answers all, the other never reads.
    fn listen<'a>(&'a self, scope: &'a Scope<'a, '_>, folder: &Path) -> Result<()> {
        for (port, answers) in [(5000, true), (5001, false)] {
            let listener = UnixListener::bind(folder.join(format!("vsock_{port}")))?;
            listener.set_nonblocking(true)?;
            scope.spawn(move || self.serve(&listener, answers));
        }
        Ok(())
    }

    fn disturb<'a>(&'a self, scope: &'a Scope<'a, '_>, folder: &'a Path, seed: u64) -> Result<()> {
        let client = Client::new(folder.join("api"))?;
        scope.spawn(move || self.turns(seed, 10, |number| self.request(&client, folder, number)));
        scope.spawn(move || self.turns(seed + 1, 20, |number| call(folder, number)));
        let udp = UdpSocket::bind("172.20.0.1:0").context("Cannot send to the guest's network")?;
        udp.set_broadcast(true)?;
        scope.spawn(move || self.turns(seed + 2, 5, |number| packets(&udp, number)));
        Ok(())
    }

    pub(crate) fn stop(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    fn turns(&self, mut number: u64, pause: u64, mut turn: impl FnMut(u64)) {
        while !self.over.load(Ordering::Relaxed) {
            number = number.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            turn(number >> 33);
            sleep(Duration::from_millis(1 + (number >> 33) % pause));
        }
    }

    fn request(&self, client: &Client, folder: &Path, number: u64) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let (method, path, body) = request(folder, number);
        let _ = client.request(method, path, body.map_or_else(Vec::new, |body| body.to_string().into_bytes()));
        if number.is_multiple_of(REQUESTS) {
            sleep(Duration::from_millis(number % 20));
            let _ = client.request("PATCH", "/vm", json!({"state": "Resumed"}).to_string().into_bytes());
        }
    }

    fn serve(&self, listener: &UnixListener, answers: bool) {
        let mut connections: Vec<UnixStream> = Vec::new();
        let mut chunk = [0; 4096];
        while !self.over.load(Ordering::Relaxed) {
            while let Ok((stream, _)) = listener.accept() {
                let excess = connections.len().saturating_sub(64);
                connections.drain(..excess);
                connections.extend(stream.set_nonblocking(true).is_ok().then_some(stream));
            }
            if answers {
                for stream in &mut connections {
                    let read = stream.read(&mut chunk).unwrap_or(0);
                    let _ = stream.write(&chunk[..read]);
                }
            }
            sleep(Duration::from_millis(1));
        }
    }
}

const REQUESTS: u64 = 11;

fn request(folder: &Path, number: u64) -> (&'static str, &'static str, Option<Value>) {
    let file = folder.join(if number & 64 == 0 { "disk" } else { "other" });
    let limit = |size: u64| json!({"bandwidth": {"size": size, "refill_time": 100}});
    let size = if number & 128 == 0 { 0 } else { 1 << 20 };
    match number % REQUESTS {
        0 => ("PATCH", "/vm", Some(json!({"state": "Paused"}))),
        1 => ("PATCH", "/drives/disk", Some(json!({"drive_id": "disk", "path_on_host": file}))),
        2 => ("PATCH", "/drives/disk", Some(json!({"drive_id": "disk", "rate_limiter": limit(size)}))),
        3 => {
            let body = json!({"iface_id": "eth0", "rx_rate_limiter": limit(size), "tx_rate_limiter": limit(size)});
            ("PATCH", "/network-interfaces/eth0", Some(body))
        }
        4 => ("PUT", "/mmds", Some(json!({"a": {"b": "c".repeat(number as usize % 2000)}}))),
        5 => ("GET", "/memory", None),
        6 => ("GET", "/vm/config", None),
        7 => ("PUT", "/actions", Some(json!({"action_type": "SendCtrlAltDel"}))),
        8 => ("GET", "/mmds", None),
        9 => ("PATCH", "/drives/read-only", Some(json!({"drive_id": "read-only", "path_on_host": "/dev/kmsg"}))),
        _ => ("GET", "/nothing/of/the/kind", None),
    }
}

/// A client of a port of the guest's, which leaves at some point.
fn call(folder: &Path, number: u64) {
    let Ok(mut stream) = UnixStream::connect(folder.join("vsock")) else { return };
    let _ = stream.set_write_timeout(Some(Duration::from_millis(20)));
    let _ = stream.set_read_timeout(Some(Duration::from_millis(20)));
    let _ = match number % 4 {
        0 => writeln!(stream, "CONNECT {}", number % 9),
        1 => write!(stream, "CONNECT 1"),
        2 => write!(stream, "{}", "x".repeat(5000)),
        _ => Ok(()),
    };
    let _ = stream.read(&mut [0; 64]);
    let _ = stream.write(&[0; 60000]);
}

fn packets(udp: &UdpSocket, number: u64) {
    for _ in 0..number % 8 {
        let _ = udp.send_to(&[0; 1400][..number as usize % 1400], "172.20.0.255:9");
    }
}
