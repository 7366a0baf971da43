// SPDX-License-Identifier: Apache-2.0
//! Data, and the accounts of it.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use super::guest::{BUF_ALLOC, Guest, TX_BUFFER, header};
use crate::devices::virtio::HostSide;
use crate::devices::virtio::vsock::packet::{HEADER_SIZE, Header, op};

const BUFFER: usize = 64 << 10;

fn byte(at: usize) -> u8 {
    (at % 251) as u8
}

fn data(from: usize, len: usize) -> Vec<u8> {
    (from..from + len).map(byte).collect()
}

/// Fills the socket and then the device's buffer to the last byte; the number of bytes that the guest sent.
fn stuff(guest: &mut Guest) -> usize {
    let (mut sent, mut told) = (0, 0);
    while sent - told < BUFFER {
        let len = (BUFFER - (sent - told)).min(16 << 10);
        guest.tx(header(op::RW), &data(sent, len));
        sent += len;
        for (header, _) in guest.rx() {
            told = header.fwd_cnt as usize;
        }
    }
    sent
}

#[test]
fn big_stream_to_a_slow_host_keeps_to_the_credit() {
    const TOTAL: usize = 4 << 20;
    let mut guest = Guest::new();
    let mut host = guest.connected(BUF_ALLOC);
    host.set_nonblocking(true).unwrap();
    let (mut sent, mut told, mut got) = (0, 0_usize, Vec::new());
    let mut chunk = vec![0; 48 << 10];
    while got.len() < TOTAL {
        let len = (BUFFER - (sent - told)).min(TOTAL - sent).min(30_000);
        if len > 0 {
            guest.tx(header(op::RW), &data(sent, len));
            sent += len;
        } else {
            // The guest has no credit: only now the host reads.
            let count = host.read(&mut chunk).unwrap();
            got.extend_from_slice(&chunk[..count]);
        }
        for (header, _) in guest.rx() {
            assert_ne!(header.op, op::RST);
            told = header.fwd_cnt as usize;
        }
    }
    assert!(got.iter().enumerate().all(|(at, got)| *got == byte(at)));
    assert_eq!(guest.count(|m| &m.tx_bytes_count), TOTAL as u64);
}

#[test]
fn guest_that_overdraws_its_credit_is_reset() {
    let mut guest = Guest::new();
    let _host = guest.connected(BUF_ALLOC);
    stuff(&mut guest);
    guest.tx(header(op::RW), b"x");
    assert_eq!(guest.ops(), [(op::RST, 0)]);
    assert_eq!(guest.count(|m| &m.conns_killed), 1);
}

#[test]
fn guest_that_closes_has_its_last_data_delivered() {
    let mut guest = Guest::new();
    let mut host = guest.connected(BUF_ALLOC);
    let sent = stuff(&mut guest);
    guest.tx(Header { flags: 3, ..header(op::SHUTDOWN) }, &[]);
    assert_eq!(guest.ops(), []);
    host.set_nonblocking(true).unwrap();
    let mut got = Vec::new();
    let mut chunk = vec![0; 10_000];
    loop {
        match host.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => got.extend_from_slice(&chunk[..count]),
            // The device has more.
            Err(_) => drop(guest.ops()),
        }
    }
    assert_eq!(got.len(), sent);
    assert!(got.iter().enumerate().all(|(at, got)| *got == byte(at)));
}

#[test]
fn host_that_never_takes_the_last_data_is_given_up() {
    let mut guest = Guest::new();
    let _host = guest.connected(BUF_ALLOC);
    stuff(&mut guest);
    guest.tx(Header { flags: 3, ..header(op::SHUTDOWN) }, &[]);
    guest.wait_for(op::RST);
    assert_eq!(guest.count(|m| &m.conns_killed), 1);
}

#[test]
fn host_that_goes_without_its_data_is_gone_for_the_guest() {
    let mut guest = Guest::new();
    let mut host = guest.connected(BUF_ALLOC);
    stuff(&mut guest);
    host.write_all(b"bye").unwrap();
    drop(host);
    assert_eq!(guest.ops(), [(op::RW, 0), (op::RST, 0)]);
    assert_eq!(guest.count(|m| &m.conns_removed), 1);
}

#[test]
fn big_stream_to_a_slow_guest_keeps_to_its_credit() {
    const TOTAL: usize = 1 << 20;
    const ROOM: u32 = 10_000;
    let mut guest = Guest::new();
    let host = guest.connected(ROOM);
    let mut writer = host.try_clone().unwrap();
    let thread = std::thread::spawn(move || writer.write_all(&data(0, TOTAL)).unwrap());
    let (mut got, mut told, mut requests) = (Vec::new(), 0, 0);
    while got.len() < TOTAL {
        for (header, data) in guest.rx() {
            requests += usize::from(header.op == op::CREDIT_REQUEST);
            got.extend(data);
        }
        assert!(got.len() - told <= ROOM as usize);
        told = got.len();
        guest.tx(Header { buf_alloc: ROOM, fwd_cnt: told as u32, ..header(op::CREDIT_UPDATE) }, &[]);
    }
    thread.join().unwrap();
    assert!(got.iter().enumerate().all(|(at, got)| *got == byte(at)));
    assert!(requests > 10, "{requests}");
}

#[test]
fn guest_that_runs_out_of_rx_buffers_gets_the_rest_later() {
    const TOTAL: usize = 100_000;
    let mut guest = Guest::new();
    let mut host = guest.connected(BUF_ALLOC);
    host.write_all(&data(0, TOTAL)).unwrap();
    guest.driver.transport.host_event();
    let first = guest.take();
    assert_eq!(first.len(), 16);
    guest.driver.transport.host_event();
    assert_eq!(guest.take(), []);
    guest.offer();
    let got: Vec<_> = first.into_iter().chain(guest.rx()).flat_map(|(_, data)| data).collect();
    assert_eq!(got.len(), TOTAL);
    assert!(got.iter().enumerate().all(|(at, got)| *got == byte(at)));
}

#[test]
fn packet_in_many_pieces_is_one_packet() {
    let mut guest = Guest::new();
    let mut host = guest.connected(BUF_ALLOC);
    let bytes = [&Header { len: 1000, ..header(op::RW) }.to_bytes()[..], &data(0, 1000)].concat();
    guest.driver.put(TX_BUFFER, &bytes);
    // The header in three, the data in four, of which one is empty.
    let cuts = [0, 1, 20, HEADER_SIZE, 50, 50, 700, bytes.len()];
    let pieces: Vec<_> =
        cuts.windows(2).map(|cut| (TX_BUFFER + cut[0] as u64, (cut[1] - cut[0]) as u32, false)).collect();
    guest.driver.send(1, 0, &pieces);
    let mut got = vec![0; 1000];
    host.read_exact(&mut got).unwrap();
    assert_eq!(got, data(0, 1000));
    assert_eq!(guest.ops(), []);
}

#[test]
fn two_connections_take_turns() {
    let mut guest = Guest::new();
    let mut first = guest.connected(BUF_ALLOC);
    let listener = guest.listen(60);
    guest.tx(Header { dst_port: 60, ..header(op::REQUEST) }, &[]);
    let (mut second, _): (UnixStream, _) = listener.accept().unwrap();
    guest.rx();
    first.write_all(&[1; 20_000]).unwrap();
    second.write_all(&[2; 20_000]).unwrap();
    let ports: Vec<_> = guest.rx().into_iter().map(|(header, _)| header.src_port).take(6).collect();
    assert_eq!(ports.windows(2).filter(|pair| pair[0] == pair[1]).count(), 0, "{ports:?}");
}
