// SPDX-License-Identifier: Apache-2.0
//! How connections begin and end.

use secretvmm_api::server::BindError;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

use super::guest::{BUF_ALLOC, CID, GUEST, Guest, HOST, header};
use crate::devices::virtio::HostSide;
use crate::devices::virtio::vsock::packet::{Header, NO_RECEIVE, NO_SEND, op};
use crate::devices::virtio::vsock::{Error, Vsock};

const BOTH: u32 = NO_RECEIVE | NO_SEND;

/// An answer of the guest's to a host-initiated `request`.
fn answer(request: &Header, op: u16) -> Header {
    Header { src_port: request.dst_port, dst_port: request.src_port, ..header(op) }
}

#[test]
fn guest_connects_and_both_sides_talk() {
    let mut guest = Guest::new();
    let mut host = guest.connected(BUF_ALLOC);
    guest.tx(header(op::RW), b"ping");
    let mut bytes = [0; 4];
    host.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"ping");
    host.write_all(b"pong").unwrap();
    let [(header, data)] = &guest.rx()[..] else { panic!("One packet") };
    assert_eq!(data, b"pong");
    assert_eq!((header.src_cid, header.dst_cid, header.src_port, header.dst_port), (2, CID, HOST, GUEST));
    assert_eq!((header.op, header.kind, header.len), (op::RW, 1, 4));
    assert_eq!((header.buf_alloc, header.fwd_cnt), (64 << 10, 4));
    assert!(guest.driver.interrupted());
    assert_eq!((guest.count(|m| &m.tx_bytes_count), guest.count(|m| &m.rx_bytes_count)), (4, 4));
}

#[test]
fn guest_connects_where_nobody_listens_and_is_reset() {
    let mut guest = Guest::new();
    guest.tx(header(op::REQUEST), &[]);
    let [(header, _)] = &guest.rx()[..] else { panic!("One packet") };
    assert_eq!((header.op, header.src_cid, header.src_port, header.dst_port), (op::RST, 2, HOST, GUEST));
    assert_eq!(guest.count(|m| &m.conns_added), 0);
}

#[test]
fn host_connects_and_hears_its_port() {
    let mut guest = Guest::new();
    let mut client = guest.client();
    client.write_all(b"CONNECT 52\nearly").unwrap();
    let [(request, _)] = guest.rx()[..] else { panic!("One packet") };
    assert_eq!((request.op, request.dst_port, request.src_port), (op::REQUEST, 52, 1 << 30));
    guest.tx(answer(&request, op::RESPONSE), &[]);
    let mut line = [0; 14];
    client.read_exact(&mut line).unwrap();
    assert_eq!(&line, b"OK 1073741824\n");
    let [(header, data)] = &guest.rx()[..] else { panic!("One packet") };
    assert_eq!((header.op, &data[..]), (op::RW, &b"early"[..]));
    guest.tx(answer(&request, op::RW), b"hello");
    let mut bytes = [0; 5];
    client.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"hello");
}

#[test]
fn host_connects_where_no_guest_listens_and_is_closed() {
    let mut guest = Guest::new();
    let mut client = guest.client();
    client.write_all(b"CONNECT 52\n").unwrap();
    let [(request, _)] = guest.rx()[..] else { panic!("One packet") };
    guest.tx(answer(&request, op::RST), &[]);
    assert_eq!(client.read(&mut [0; 8]).unwrap(), 0);
    assert_eq!(guest.ops(), []);
}

#[test]
fn host_says_nonsense_and_is_closed() {
    let mut guest = Guest::new();
    let mut client = guest.client();
    client.write_all(b"GET / HTTP/1.1\r\n").unwrap();
    assert_eq!(guest.ops(), []);
    // With its words unread or read, the client finds the end.
    assert!(matches!(client.read(&mut [0; 8]), Ok(0) | Err(_)));
}

#[test]
fn guest_that_does_not_answer_loses_the_connection() {
    let mut guest = Guest::new();
    let mut client = guest.client();
    client.write_all(b"CONNECT 52\n").unwrap();
    guest.wait_for(op::REQUEST);
    let took = guest.wait_for(op::RST);
    assert!(took > Duration::from_millis(1500), "{took:?}");
    assert_eq!(client.read(&mut [0; 8]).unwrap(), 0);
    assert_eq!(guest.count(|m| &m.conns_killed), 1);
}

#[test]
fn time_does_not_run_while_the_vm_is_paused() {
    let mut guest = Guest::new();
    let mut client = guest.client();
    client.write_all(b"CONNECT 52\n").unwrap();
    let [(request, _)] = guest.rx()[..] else { panic!("One packet") };
    guest.driver.transport.pause();
    std::thread::sleep(Duration::from_millis(2800));
    guest.driver.transport.resume();
    assert_eq!(guest.ops(), []);
    guest.tx(answer(&request, op::RESPONSE), &[]);
    let mut ok = [0; 3];
    client.read_exact(&mut ok).unwrap();
    assert_eq!(&ok, b"OK ");
}

#[test]
fn host_that_sends_no_more_still_receives() {
    let mut guest = Guest::new();
    let mut host = guest.connected(BUF_ALLOC);
    host.write_all(b"last").unwrap();
    host.shutdown(Shutdown::Write).unwrap();
    assert_eq!(guest.ops(), [(op::RW, 0), (op::SHUTDOWN, NO_SEND)]);
    guest.tx(header(op::RW), b"answer");
    guest.tx(Header { flags: BOTH, ..header(op::SHUTDOWN) }, &[]);
    let mut bytes = Vec::new();
    host.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, b"answer");
    assert_eq!(guest.ops(), [(op::RST, 0)]);
}

#[test]
fn guest_that_sends_no_more_still_receives() {
    let mut guest = Guest::new();
    let mut host = guest.connected(BUF_ALLOC);
    guest.tx(header(op::RW), b"last");
    guest.tx(Header { flags: NO_SEND, ..header(op::SHUTDOWN) }, &[]);
    let mut bytes = Vec::new();
    host.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, b"last");
    host.write_all(b"answer").unwrap();
    drop(host);
    assert_eq!(guest.ops(), [(op::RW, 0), (op::SHUTDOWN, NO_SEND)]);
    guest.tx(Header { flags: BOTH, ..header(op::SHUTDOWN) }, &[]);
    assert_eq!(guest.ops(), [(op::RST, 0)]);
    assert_eq!(guest.count(|m| &m.conns_removed), 1);
}

#[test]
fn guest_that_receives_no_more_ends_the_hosts_sending() {
    let mut guest = Guest::new();
    let mut host = guest.connected(BUF_ALLOC);
    guest.tx(Header { flags: NO_RECEIVE, ..header(op::SHUTDOWN) }, &[]);
    assert!(host.write_all(b"to nobody").is_err());
    guest.tx(header(op::RW), b"still");
    let mut bytes = [0; 5];
    host.read_exact(&mut bytes).unwrap();
    assert_eq!(guest.ops(), []);
}

#[test]
fn host_that_closes_is_told_of_and_reset_in_time() {
    let mut guest = Guest::new();
    drop(guest.connected(BUF_ALLOC));
    assert_eq!(guest.ops(), [(op::SHUTDOWN, BOTH)]);
    // What is on its way meanwhile goes nowhere.
    guest.tx(header(op::RW), b"too late");
    let took = guest.wait_for(op::RST);
    assert!(took > Duration::from_millis(1500), "{took:?}");
    guest.tx(header(op::RW), b"much too late");
    assert_eq!(guest.ops(), [(op::RST, 0)]);
}

#[test]
fn guest_that_resets_closes_the_socket_at_once() {
    let mut guest = Guest::new();
    let mut host = guest.connected(BUF_ALLOC);
    guest.tx(header(op::RST), &[]);
    assert_eq!(host.read(&mut [0; 8]).unwrap(), 0);
    assert_eq!(guest.ops(), []);
}

#[test]
fn reset_of_the_device_closes_all_but_the_listener() {
    let mut guest = Guest::new();
    let mut host = guest.connected(BUF_ALLOC);
    let mut client = guest.client();
    client.write_all(b"CONN").unwrap();
    assert_eq!(guest.ops(), []);
    guest.driver.write(virtio_bindings::virtio_mmio::VIRTIO_MMIO_STATUS, 0);
    assert_eq!(host.read(&mut [0; 8]).unwrap(), 0);
    assert!(matches!(client.read(&mut [0; 8]), Ok(0) | Err(_)));
    guest.client();
}

#[test]
fn nothing_moves_while_the_vm_is_paused() {
    let mut guest = Guest::new();
    let mut host = guest.connected(BUF_ALLOC);
    guest.driver.transport.pause();
    host.write_all(b"hello").unwrap();
    guest.driver.transport.host_event();
    assert_eq!(guest.take(), []);
    guest.driver.transport.resume();
    assert_eq!(guest.take().len(), 1);
}

#[test]
fn main_loop_that_watches_edges_misses_nothing() {
    let mut guest = Guest::new();
    let outer = Epoll::new().unwrap();
    let watched = EventSet::IN | EventSet::OUT | EventSet::EDGE_TRIGGERED;
    for descriptor in guest.driver.transport.descriptors() {
        outer.ctl(ControlOperation::Add, descriptor, EpollEvent::new(watched, 0)).unwrap();
    }
    let mut host = guest.connected(BUF_ALLOC);
    for round in 0..200_u32 {
        host.write_all(&round.to_le_bytes()).unwrap();
        let mut data = Vec::new();
        while data.is_empty() {
            assert_ne!(outer.wait(1000, &mut [EpollEvent::default(); 4]).unwrap(), 0, "round {round}");
            guest.driver.transport.host_event();
            data = guest.take().into_iter().flat_map(|(_, data)| data).collect();
            guest.offer();
        }
        assert_eq!(data, round.to_le_bytes());
    }
}

#[test]
fn device_that_cannot_be_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let open = |guest_cid, name: &str| {
        Vsock::open(&secretvmm_api::Vsock { vsock_id: None, guest_cid, uds_path: dir.path().join(name) })
    };
    for cid in [0, 1, 2, u32::MAX] {
        assert!(matches!(open(cid, "v"), Err(Error::Cid(_))));
    }
    let _first = open(3, "v").unwrap();
    assert!(matches!(open(4, "v"), Err(Error::Listen(BindError::InUse(_)))));
    assert!(open(4, &"x".repeat(108)).is_err());
}

#[test]
fn configuration_space_is_the_cid() {
    let guest = Guest::new();
    assert_eq!(guest.driver.read(0x100), CID as u32);
    assert_eq!(guest.driver.read(0x104), 0);
}
