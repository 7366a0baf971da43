// SPDX-License-Identifier: Apache-2.0
//! Guests that break the rules.

use std::io::{Read, Write};
use std::time::Duration;

use proptest::prelude::*;
use virtio_bindings::virtio_mmio::VIRTIO_MMIO_QUEUE_NOTIFY;

use super::guest::{BUF_ALLOC, GUEST, Guest, HOST, TX_BUFFER, header};
use crate::devices::virtio::testing::BUFFERS;
use crate::devices::virtio::vsock::packet::{HEADER_SIZE, Header, op};
use crate::devices::virtio::{ConfigChange, HostSide};

/// The connection of a guest that is still there works.
fn works(guest: &mut Guest) {
    guest.rx();
    guest.tx(header(op::RST), &[]);
    let _ = std::fs::remove_file(format!("{}_{HOST}", guest.path.display()));
    let mut host = guest.connected(BUF_ALLOC);
    guest.tx(header(op::RW), b"fine");
    let mut bytes = [0; 4];
    host.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"fine");
    assert!(!guest.driver.needs_reset());
}

#[test]
fn packet_that_no_connection_expects_is_reset() {
    let mut guest = Guest::new();
    for number in [op::RESPONSE, op::SHUTDOWN, op::RW, op::CREDIT_UPDATE, op::CREDIT_REQUEST, 0, 8, u16::MAX] {
        guest.tx(header(number), &[]);
        let [(reset, _)] = guest.rx()[..] else { panic!("One packet") };
        assert_eq!((reset.op, reset.src_port, reset.dst_port), (op::RST, HOST, GUEST));
    }
    guest.tx(header(op::RST), &[]);
    assert_eq!(guest.ops(), []);
    works(&mut guest);
}

#[test]
fn packet_of_another_kind_or_to_another_cid_is_reset_in_its_own_terms() {
    let mut guest = Guest::new();
    let _listener = guest.listen(HOST);
    guest.tx(Header { kind: 2, ..header(op::REQUEST) }, &[]);
    let [(reset, _)] = guest.rx()[..] else { panic!("One packet") };
    assert_eq!((reset.op, reset.kind), (op::RST, 2));
    guest.tx(Header { dst_cid: 77, ..header(op::REQUEST) }, &[]);
    let [(reset, _)] = guest.rx()[..] else { panic!("One packet") };
    assert_eq!((reset.op, reset.src_cid), (op::RST, 77));
    guest.tx(Header { dst_port: u32::MAX, ..header(op::REQUEST) }, &[]);
    assert_eq!(guest.ops(), [(op::RST, 0)]);
    guest.tx(Header { src_cid: 43, ..header(op::REQUEST) }, &[]);
    assert_eq!(guest.ops(), []);
    works(&mut guest);
}

#[test]
fn rule_broken_within_a_connection_ends_it() {
    let rw = header(op::RW);
    let broken: [(Header, usize); 8] = [
        // More bytes than there are, than may be, and than fit into any account.
        (Header { len: 11, ..rw }, 10),
        (Header { len: (64 << 10) + 1, ..rw }, 10),
        (Header { len: u32::MAX, ..rw }, 10),
        // Bytes forwarded that were never sent.
        (Header { fwd_cnt: 1, ..header(op::CREDIT_UPDATE) }, 0),
        (Header { fwd_cnt: u32::MAX / 2, ..rw }, 0),
        (header(op::REQUEST), 0),
        (header(op::RESPONSE), 0),
        (header(99), 0),
    ];
    for (header, len) in broken {
        let mut guest = Guest::new();
        let mut host = guest.connected(BUF_ALLOC);
        guest.raw(header, &vec![0; len]);
        assert_eq!(guest.ops(), [(op::RST, 0)], "{header:?}");
        assert_eq!(host.read(&mut [0; 8]).unwrap(), 0);
        assert_eq!(guest.count(|m| &m.conns_killed), 1);
        works(&mut guest);
    }
}

#[test]
fn data_after_the_guest_said_there_is_none_ends_the_connection() {
    let mut guest = Guest::new();
    let _host = guest.connected(BUF_ALLOC);
    guest.tx(Header { flags: 2, ..header(op::SHUTDOWN) }, &[]);
    guest.tx(header(op::RW), b"after all");
    assert_eq!(guest.ops(), [(op::RST, 0)]);
}

#[test]
fn answer_before_the_question_was_sent_ends_the_connection() {
    let mut guest = Guest::without_buffers();
    guest.client().write_all(b"CONNECT 52\n").unwrap();
    guest.driver.transport.host_event();
    guest.tx(Header { src_port: 52, dst_port: 1 << 30, ..header(op::RESPONSE) }, &[]);
    guest.offer();
    // The guest has never heard of it, so there is nothing to reset.
    assert_eq!(guest.ops(), []);
    assert_eq!(guest.count(|m| &m.conns_killed), 1);
}

#[test]
fn chain_without_a_packet_is_dropped() {
    let mut guest = Guest::new();
    let size = HEADER_SIZE as u32;
    guest.driver.put(TX_BUFFER, &header(op::REQUEST).to_bytes());
    let lots: Vec<_> = (0..12).map(|at| (TX_BUFFER + at, 1, false)).collect();
    let chains: [&[(u64, u32, bool)]; 7] = [
        &[(TX_BUFFER, size - 1, false)],
        &[(TX_BUFFER, 0, false)],
        &[(TX_BUFFER, size, true)],
        &[(1 << 40, size, false)],
        &[(u64::MAX - 3, u32::MAX, false)],
        &[((64 << 20) - 10, size, false)],
        &lots,
    ];
    for chain in chains {
        guest.driver.send(1, 0, chain);
    }
    assert_eq!(guest.driver.used(1).len(), chains.len());
    assert_eq!(guest.ops(), []);
    assert_eq!(guest.count(|m| &m.tx_queue_event_fails), chains.len() as u64);
    works(&mut guest);
}

#[test]
fn rx_buffer_too_short_for_a_packet_is_given_back() {
    let guest = Guest::without_buffers();
    guest.driver.send(0, 0, &[(BUFFERS, HEADER_SIZE as u32, true)]);
    guest.driver.send(0, 1, &[(BUFFERS, 4096, false)]);
    guest.driver.send(0, 2, &[(1 << 40, 4096, true)]);
    guest.driver.send(0, 3, &[(BUFFERS, 20, true), (BUFFERS + 20, 100, true)]);
    guest.tx(header(op::REQUEST), &[]);
    assert_eq!(guest.driver.used(0), [(0, 0), (1, 0), (2, 0), (3, 44)]);
    assert_eq!(guest.driver.bytes(BUFFERS + 30, 2), op::RST.to_le_bytes());
}

#[test]
fn packets_are_exchanged_in_turns() {
    let mut guest = Guest::without_buffers();
    guest.driver.transport.change(|vsock| (vsock.turns.set_length(Duration::ZERO), ConfigChange::No));
    guest.driver.put(TX_BUFFER, &header(op::RW).to_bytes());
    guest.driver.descriptor(1, 0, TX_BUFFER, HEADER_SIZE as u32, 0, 0);
    (0..3).for_each(|_| guest.driver.offer(1, 0));
    guest.driver.write(VIRTIO_MMIO_QUEUE_NOTIFY, 1);
    assert_eq!(guest.driver.used(1).len(), 1);
    (0..2).for_each(|_| guest.driver.transport.host_event());
    assert_eq!(guest.driver.used(1).len(), 3);
    // Three answers wait, and go one by one.
    guest.offer();
    assert_eq!(guest.driver.used(0).len(), 1);
    (0..2).for_each(|_| guest.driver.transport.host_event());
    assert_eq!(guest.driver.used(0).len(), 3);
}

#[test]
fn connections_that_come_and_go_leave_nothing_to_be_sent() {
    let mut guest = Guest::without_buffers();
    let listener = guest.listen(HOST);
    // One that stays, so that the device is never without connections.
    guest.tx(Header { src_port: 7, ..header(op::REQUEST) }, &[]);
    let _stays = listener.accept().unwrap();
    for _ in 0..1000 {
        guest.tx(header(op::REQUEST), &[]);
        guest.tx(header(op::RST), &[]);
        let _ = listener.accept().unwrap();
    }
    guest.driver.transport.look(|vsock| {
        let (ready, connections) = vsock.muxer.waiting();
        assert!(ready <= connections, "{ready} entries for {connections} connections");
    });
    guest.offer();
    assert_eq!(guest.ops(), [(op::RESPONSE, 0)]);
}

#[test]
fn silent_clients_go_and_keep_nobody_out() {
    let mut guest = Guest::new();
    let listener = guest.listen(HOST);
    let silent: Vec<_> = (0..400)
        .map(|_| {
            let client = guest.client();
            guest.driver.transport.host_event();
            client
        })
        .collect();
    let clients = |guest: &Guest| guest.driver.transport.look(|vsock| vsock.muxer.clients());
    assert!(clients(&guest) <= 256, "they take all places");
    guest.tx(header(op::REQUEST), &[]);
    assert_eq!(guest.ops(), [(op::RESPONSE, 0)]);
    drop(listener);
    guest.driver.transport.change(|vsock| (vsock.muxer.pass(Duration::from_secs(11)), ConfigChange::No));
    let start = std::time::Instant::now();
    while clients(&guest) > 0 {
        assert!(start.elapsed() < Duration::from_secs(10), "they stay");
        guest.driver.transport.host_event();
    }
    drop(silent);
}

#[test]
fn guest_that_asks_and_does_not_listen_waits() {
    let mut guest = Guest::without_buffers();
    // As many as have a place for their answers, and a queue full.
    for _ in 0..256 + 16 {
        guest.tx(header(op::RW), &[]);
    }
    assert_eq!(guest.driver.used(1).len(), 256);
    let mut answers = 0;
    for _ in 0..100 {
        guest.offer();
        answers += guest.take().len();
    }
    assert_eq!(answers, 256 + 16);
    assert_eq!(guest.driver.used(1).len(), answers);
}

/// A vCPU's thread may not make sockets: the guest waits for the main thread, and no longer than it wants to.
#[test]
fn request_is_connected_by_the_main_thread_unless_taken_back() {
    let mut guest = Guest::new();
    let listener = guest.listen(HOST);
    listener.set_nonblocking(true).unwrap();
    let missing = || listener.accept().unwrap_err().kind() == std::io::ErrorKind::WouldBlock;
    guest.raw(header(op::REQUEST), &[]);
    assert!(missing(), "The vCPU's thread has connected");
    guest.raw(header(op::RST), &[]);
    assert!(guest.ops().is_empty() && missing());
    guest.raw(header(op::REQUEST), &[]);
    assert_eq!(guest.ops(), [(op::RESPONSE, 0)]);
    listener.accept().unwrap();
    // Of several each is an event of its own, so that the main thread's turn can end between them.
    for port in 4000..4003 {
        guest.raw(Header { src_port: port, ..header(op::REQUEST) }, &[]);
    }
    for turn in 0..3 {
        guest.driver.transport.host_event();
        assert_eq!((listener.accept().is_ok(), missing()), (true, true), "{turn}");
    }
    // So many wait, and no more: the rest stays in the guest's queue.
    for port in 0..300 {
        guest.raw(Header { src_port: 5000 + port, ..header(op::REQUEST) }, &[]);
    }
    assert_eq!(guest.driver.used(1).len(), 6 + 256);
}

prop_compose! {
    fn any_header()(
        src_cid in prop_oneof![8 => Just(super::guest::CID), 1 => any::<u64>()],
        dst_cid in prop_oneof![8 => Just(2), 1 => any::<u64>()],
        src_port in prop_oneof![8 => GUEST..GUEST + 2, 1 => any::<u32>()],
        dst_port in prop_oneof![8 => HOST..HOST + 2, 1 => any::<u32>()],
        len in prop_oneof![4 => 0..5000_u32, 1 => 60_000..70_000_u32, 1 => any::<u32>()],
        kind in prop_oneof![16 => Just(1), 1 => any::<u16>()],
        op in prop_oneof![16 => 1..8_u16, 1 => any::<u16>()],
        flags in prop_oneof![0..4_u32, any::<u32>()],
        buf_alloc in prop_oneof![0..100_000_u32, any::<u32>()],
        fwd_cnt in prop_oneof![4 => Just(0), 2 => 0..10_000_u32, 1 => any::<u32>()],
    ) -> Header {
        Header { src_cid, dst_cid, src_port, dst_port, len, kind, op, flags, buf_alloc, fwd_cnt }
    }
}

/// Buffers of a chain, of which the first begins with the header.
fn any_chain() -> impl Strategy<Value = Vec<(u64, u32, bool)>> {
    let address =
        prop_oneof![8 => Just(TX_BUFFER), 4 => (0..70_000_u64).prop_map(|at| TX_BUFFER + at), 1 => any::<u64>()];
    let len = prop_oneof![4 => 40..50_u32, 8 => 0..70_000_u32, 1 => any::<u32>()];
    let piece = (address, len, prop::bool::weighted(0.1));
    (44..70_000_u32, prop::collection::vec(piece, 0..8)).prop_map(|(first, rest)| {
        let mut chain = vec![(TX_BUFFER, first, false)];
        chain.extend(rest);
        chain
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn device_survives_any_packets(packets in prop::collection::vec((any_header(), any_chain(), any::<bool>()), 1..60)) {
        let mut guest = Guest::new();
        let listener = guest.listen(HOST);
        listener.set_nonblocking(true).unwrap();
        let mut streams = Vec::new();
        for (header, chain, talk) in packets {
            guest.driver.put(TX_BUFFER, &header.to_bytes());
            guest.driver.send(1, 0, &chain);
            streams.extend(listener.accept().map(|(stream, _)| stream));
            if talk {
                streams.iter_mut().for_each(|stream| drop(stream.write(b"something")));
            } else {
                streams.pop();
            }
            guest.rx();
        }
        prop_assert!(!guest.driver.needs_reset());
    }
}
