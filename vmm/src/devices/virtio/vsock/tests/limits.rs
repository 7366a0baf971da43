// SPDX-License-Identifier: Apache-2.0
//! Many connections, and too few descriptors. Both need a process of their own.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::{Duration, Instant};

use super::guest::{Guest, HOST, header};
use crate::devices::virtio::vsock::muxer::CONNECTIONS_MAX;
use crate::devices::virtio::vsock::packet::{Header, op};

const CHILD: &str = "SECRETVMM_TEST_CHILD";

/// Runs the test `name` again with so many descriptors; true in that process.
fn is_child(name: &str, descriptors: usize) -> bool {
    if std::env::var_os(CHILD).is_some() {
        return true;
    }
    let status = Command::new("sh")
        .args(["-c", &format!("ulimit -n {descriptors} && exec \"$@\""), "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", &format!("devices::virtio::vsock::tests::limits::{name}")])
        .env(CHILD, "1")
        .status()
        .unwrap();
    assert!(status.success());
    false
}

#[test]
fn as_many_connections_as_allowed_work_and_one_more_does_not() {
    if !is_child("as_many_connections_as_allowed_work_and_one_more_does_not", 4000) {
        return;
    }
    let mut guest = Guest::new();
    let listener = guest.listen(HOST);
    let request = |port| Header { src_port: port, ..header(op::REQUEST) };
    let mut streams: Vec<UnixStream> = Vec::new();
    for port in 0..CONNECTIONS_MAX as u32 {
        guest.tx(request(port), &[]);
        streams.push(listener.accept().unwrap().0);
        assert_eq!(guest.ops(), [(op::RESPONSE, 0)]);
    }
    guest.tx(request(5000), &[]);
    assert_eq!(guest.ops(), [(op::RST, 0)]);
    let mut client = guest.client();
    assert_eq!(guest.ops(), []);
    assert_eq!(client.read(&mut [0; 4]).unwrap(), 0);

    for (port, stream) in streams.iter_mut().enumerate() {
        stream.write_all(&port.to_le_bytes()).unwrap();
        guest.tx(Header { src_port: port as u32, ..header(op::RW) }, &port.to_le_bytes());
    }
    let got = guest.rx();
    assert_eq!(got.len(), CONNECTIONS_MAX);
    assert!(got.iter().all(|(header, data)| *data == (header.dst_port as usize).to_le_bytes()));
    for (port, stream) in streams.iter_mut().enumerate() {
        let mut bytes = [0; 8];
        stream.read_exact(&mut bytes).unwrap();
        assert_eq!(usize::from_le_bytes(bytes), port);
    }
    drop(streams);
    assert_eq!(guest.ops(), vec![(op::SHUTDOWN, 3); CONNECTIONS_MAX]);
    for port in 0..CONNECTIONS_MAX as u32 {
        guest.tx(Header { src_port: port, ..header(op::RST) }, &[]);
    }
    assert_eq!(guest.count(|m| &m.conns_removed), CONNECTIONS_MAX as u64);
}

#[test]
fn client_without_a_descriptor_waits_for_one() {
    if !is_child("client_without_a_descriptor_waits_for_one", 64) {
        return;
    }
    let mut guest = Guest::new();
    let mut client = guest.client();
    client.write_all(b"CONNECT 52\n").unwrap();
    let hogs: Vec<_> = std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect();
    assert_eq!(guest.ops(), []);
    assert!(guest.count(|m| &m.muxer_event_fails) > 0);
    // The guest's own wishes fail at once.
    guest.tx(header(op::REQUEST), &[]);
    assert_eq!(guest.ops(), [(op::RST, 0)]);
    drop(hogs);
    let start = Instant::now();
    guest.wait_for(op::REQUEST);
    assert!(start.elapsed() < Duration::from_secs(1));
}
