// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]

use crate::metrics::Counter;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use proptest::prelude::*;
use secretvmm_api::{RateLimiter as Limits, TokenBucket};
use virtio_bindings::virtio_mmio::{VIRTIO_MMIO_QUEUE_NOTIFY, VIRTIO_MMIO_STATUS};
use virtio_bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;
use vm_memory::{Bytes, GuestAddress};

use super::*;
use crate::bus::MmioDevice;
use crate::devices::virtio::testing::{BUFFERS, Driver, INDIRECT, NEXT, WRITE};
use crate::devices::virtio::{ConfigChange, HostSide};

const MERGE: u64 = 1 << VIRTIO_NET_F_MRG_RXBUF;
const MAC: MacAddr = MacAddr([6, 0, 0xac, 0x10, 0, 2]);

fn interface() -> NetworkInterface {
    NetworkInterface {
        iface_id: "eth0".into(),
        host_dev_name: "tap0".into(),
        guest_mac: None,
        mtu: None,
        rx_rate_limiter: None,
        tx_rate_limiter: None,
    }
}

/// A device whose TAP is a socket, and the socket's other end.
fn net(interface: &NetworkInterface) -> (Net, UnixDatagram) {
    let (ours, peer) = UnixDatagram::pair().unwrap();
    for socket in [&ours, &peer] {
        socket.set_nonblocking(true).unwrap();
    }
    (Net::with_tap(interface, Tap::from(File::from(OwnedFd::from(ours)))).unwrap(), peer)
}

fn active(features: u64) -> (Driver<Net>, UnixDatagram) {
    let (net, peer) = net(&interface());
    (Driver::active(net, features), peer)
}

/// A frame with its header, all bytes different from their neighbours.
fn frame(len: usize) -> Vec<u8> {
    let mut frame: Vec<u8> = (0..HEADER_SIZE + len).map(|at| (at % 251) as u8).collect();
    frame[..HEADER_SIZE].fill(0);
    frame
}

fn received(peer: &UnixDatagram) -> Option<Vec<u8>> {
    let mut bytes = vec![0; FRAME_MAX];
    let len = peer.recv(&mut bytes).ok()?;
    bytes.truncate(len);
    Some(bytes)
}

fn counted(driver: &Driver<Net>, counter: impl Fn(&Metrics) -> &Counter) -> u64 {
    driver.transport.change(|net| (counter(&net.metrics()).total(), ConfigChange::No))
}

#[test]
fn features_offer_mac_and_mtu_only_if_given() {
    let optional = 1 << VIRTIO_NET_F_MAC | 1 << VIRTIO_NET_F_MTU;
    let driver = Driver::new(net(&interface()).0);
    assert_eq!(driver.features() & optional, 0);

    let driver = Driver::new(net(&NetworkInterface { guest_mac: Some(MAC), mtu: Some(9000), ..interface() }).0);
    assert_eq!(driver.features() & optional, optional);
    let mut config = [0; 12];
    driver.transport.read(0x100, &mut config);
    assert_eq!(config, [6, 0, 0xac, 0x10, 0, 2, 0, 0, 0, 0, 0x28, 0x23]);
}

#[test]
fn sent_frame_is_gathered_from_its_chain() {
    let (driver, peer) = active(0);
    let frame = frame(100);
    for (at, part) in frame.chunks(30).enumerate() {
        driver.put(BUFFERS + at as u64 * 0x1000, part);
    }
    driver.send(TX, 0, &[0, 1, 2, 3].map(|at| (BUFFERS + at * 0x1000, if at < 3 { 30 } else { 22 }, false)));
    assert_eq!(received(&peer).unwrap(), frame);
    assert_eq!(driver.used(TX), [(0, 0)]);
    assert!(driver.interrupted());
    assert_eq!(counted(&driver, |m| &m.tx_bytes_count), 100);
}

#[test]
fn sent_frame_that_is_none_is_dropped_and_the_next_goes() {
    let (driver, peer) = active(0);
    let short = (HEADER_SIZE + ETHERNET_HEADER) as u32 - 1;
    driver.send(TX, 0, &[(BUFFERS, short, false)]);
    driver.send(TX, 1, &[(BUFFERS, 12, false), (BUFFERS, 60, true)]);
    driver.send(TX, 3, &[(1 << 40, 60, false)]);
    driver.send(TX, 4, &[(BUFFERS, u32::MAX, false)]);
    driver.send(TX, 5, &[(BUFFERS, 40000, false), (BUFFERS, 40000, false)]);
    assert!(received(&peer).is_none());
    assert_eq!(counted(&driver, |m| &m.tx_malformed_frames), 5);

    driver.send(TX, 7, &[(BUFFERS, 72, false)]);
    assert_eq!(received(&peer).unwrap().len(), 72);
    assert_eq!(driver.used(TX).len(), 6);
}

#[test]
fn sent_frame_with_another_source_is_counted() {
    let (net, peer) = net(&NetworkInterface { guest_mac: Some(MAC), ..interface() });
    let driver = Driver::active(net, 0);
    driver.put(BUFFERS + 18, &MAC.0);
    driver.send(TX, 0, &[(BUFFERS, 72, false)]);
    driver.send(TX, 1, &[(BUFFERS + 1, 72, false)]);
    assert!(received(&peer).is_some() && received(&peer).is_some());
    assert_eq!(counted(&driver, |m| &m.tx_spoofed_mac_count), 1);
}

#[test]
fn sent_frames_wait_while_the_tap_takes_none() {
    let (driver, peer) = active(0);
    let mut sent = 0;
    while driver.used(TX).len() == sent {
        driver.send(TX, (sent % 16) as u16, &[(BUFFERS, 72, false)]);
        sent += 1;
        assert!(sent < 10_000);
    }
    while received(&peer).is_some() {}
    driver.transport.host_event();
    assert_eq!(driver.used(TX).len(), sent);
    assert!(received(&peer).is_some());
    assert_eq!(counted(&driver, |m| &m.tx_fails), 0);
}

#[test]
fn received_frame_lands_in_the_buffer_with_its_count() {
    let (driver, peer) = active(0);
    driver.send(RX, 2, &[(BUFFERS, 10, true), (BUFFERS + 0x1000, 2000, true)]);
    peer.send(&frame(100)).unwrap();
    driver.transport.host_event();
    assert_eq!(driver.used(RX), [(2, 112)]);
    assert!(driver.interrupted());
    assert_eq!(driver.bytes(BUFFERS + 0x1000, 2), [1, 0]);
    assert_eq!(driver.bytes(BUFFERS + 0x1002, 100), frame(100)[HEADER_SIZE..]);
    assert_eq!(counted(&driver, |m| &m.rx_bytes_count), 100);
}

#[test]
fn received_frames_wait_for_buffers() {
    let (driver, peer) = active(0);
    peer.send(&frame(100)).unwrap();
    peer.send(&frame(200)).unwrap();
    driver.transport.host_event();
    assert_eq!(counted(&driver, |m| &m.no_rx_avail_buffer), 2, "at the start and now");
    driver.send(RX, 0, &[(BUFFERS, 2000, true)]);
    assert_eq!(driver.used(RX), [(0, 112)]);
    driver.send(RX, 1, &[(BUFFERS, 2000, true)]);
    assert_eq!(driver.used(RX), [(0, 112), (1, 212)]);
}

#[test]
fn received_frame_is_spread_over_buffers_that_may_be_merged() {
    let (driver, peer) = active(MERGE);
    for head in 0..16 {
        driver.send(RX, head, &[(BUFFERS + u64::from(head) * 0x1000, 100, true)]);
    }
    peer.send(&frame(250)).unwrap();
    peer.send(&frame(20)).unwrap();
    driver.transport.host_event();
    assert_eq!(driver.used(RX), [(0, 100), (1, 100), (2, 62)], "no room for the longest frame is left");
    driver.send(RX, 2, &[(BUFFERS + 0x2000, 100, true)]);
    driver.send(RX, 1, &[(BUFFERS + 0x1_1000, 100, true)]);
    driver.send(RX, 0, &[(BUFFERS + 0x1_0000, 100, true)]);
    assert_eq!(driver.used(RX)[3..], [(3, 32)]);
    assert_eq!(driver.bytes(BUFFERS + 10, 2), [3, 0]);
    assert_eq!(driver.bytes(BUFFERS + 0x3000 + 10, 2), [1, 0]);
    let mut bytes = driver.bytes(BUFFERS, 100);
    bytes.extend(driver.bytes(BUFFERS + 0x1000, 100));
    bytes.extend(driver.bytes(BUFFERS + 0x2000, 62));
    assert_eq!(bytes[HEADER_SIZE..], frame(250)[HEADER_SIZE..]);
}

#[test]
fn received_frame_of_the_longest_kind_fits_after_segmentation_was_taken() {
    let (driver, peer) = active(MERGE | GUEST_GSO | 1 << VIRTIO_NET_F_GUEST_CSUM);
    driver.send(RX, 0, &[(BUFFERS, 40_000, true)]);
    peer.send(&frame(60_000)).unwrap();
    driver.transport.host_event();
    assert_eq!(driver.used(RX), [], "one buffer may be too little");
    driver.send(RX, 1, &[(BUFFERS + 0x1_0000, 40_000, true)]);
    assert_eq!(driver.used(RX), [(0, 40_000), (1, 20_012)]);
}

#[test]
fn received_frame_longer_than_its_buffer_is_lost_alone() {
    let (driver, peer) = active(0);
    driver.send(RX, 0, &[(BUFFERS, 100, true)]);
    peer.send(&frame(100)).unwrap();
    peer.send(&frame(88)).unwrap();
    driver.transport.host_event();
    assert_eq!(driver.used(RX), [(0, 100)]);
    assert_eq!(driver.bytes(BUFFERS + 12, 88), frame(88)[HEADER_SIZE..]);
    assert_eq!(counted(&driver, |m| &m.rx_fails), 1);
}

#[test]
fn receive_buffer_that_cannot_be_written_comes_back_empty() {
    let (driver, peer) = active(0);
    driver.send(RX, 0, &[(BUFFERS, 2000, false)]);
    driver.send(RX, 1, &[(1 << 40, 2000, true)]);
    driver.send(RX, 2, &[(u64::MAX - 10, u32::MAX, true)]);
    peer.send(&frame(100)).unwrap();
    driver.send(RX, 3, &[(BUFFERS, 60, false), (BUFFERS, 1 << 31, true)]);
    assert_eq!(driver.used(RX), [(0, 0), (1, 0), (2, 0), (3, 112)]);
}

#[test]
fn frames_and_useless_buffers_are_served_in_turns() {
    let (driver, peer) = active(0);
    driver.transport.change(|net| (net.turns.set_length(Duration::ZERO), ConfigChange::No));
    driver.descriptor(TX, 0, BUFFERS, 72, 0, 0);
    (0..3).for_each(|_| driver.offer(TX, 0));
    driver.write(VIRTIO_MMIO_QUEUE_NOTIFY, TX as u32);
    assert_eq!(driver.used(TX).len(), 1);
    (0..2).for_each(|_| driver.transport.host_event());
    assert_eq!(driver.used(TX).len(), 3);
    while received(&peer).is_some() {}

    driver.descriptor(RX, 0, BUFFERS, 2000, 0, 0);
    (0..3).for_each(|_| driver.offer(RX, 0));
    driver.write(VIRTIO_MMIO_QUEUE_NOTIFY, RX as u32);
    assert_eq!(driver.used(RX), [(0, 0)]);
    (0..2).for_each(|_| driver.transport.host_event());
    assert_eq!(driver.used(RX).len(), 3);

    driver.descriptor(RX, 1, BUFFERS, 2000, WRITE, 0);
    (0..2).for_each(|_| driver.offer(RX, 1));
    peer.send(&frame(100)).unwrap();
    peer.send(&frame(100)).unwrap();
    driver.transport.host_event();
    assert_eq!(driver.used(RX).len(), 4);
    driver.transport.host_event();
    assert_eq!(driver.used(RX).len(), 5);
}

#[test]
fn reset_forgets_the_drivers_buffers() {
    let (driver, peer) = active(MERGE);
    driver.send(RX, 0, &[(BUFFERS, 100, true)]);
    driver.write(VIRTIO_MMIO_STATUS, 0);
    driver.memory.write_slice(&[0; 0x2_0000], GuestAddress(Driver::<Net>::rings(0))).unwrap();
    driver.negotiate(0);
    driver.set_up_queue(RX);
    driver.write(VIRTIO_MMIO_STATUS, 15);
    peer.send(&frame(50)).unwrap();
    driver.transport.host_event();
    assert_eq!(driver.used(RX), []);
    driver.send(RX, 5, &[(BUFFERS + 0x1000, 100, true)]);
    assert_eq!(driver.used(RX), [(5, 62)]);
}

#[test]
fn interrupt_comes_when_the_driver_asks_for_it() {
    let (driver, peer) = active(MERGE | 1 << VIRTIO_RING_F_EVENT_IDX);
    for head in 0..16 {
        driver.send(RX, head, &[(BUFFERS + u64::from(head) * 0x1000, 120, true)]);
    }
    let receive = |len| {
        peer.send(&frame(len)).unwrap();
        driver.transport.host_event();
        driver.interrupted()
    };
    // used_event, behind the avail ring: at first 0.
    let event = Driver::<Net>::rings(RX) + 0x4000 + 4 + 2 * 16;
    assert!(receive(50), "entry 0");
    assert!(!receive(50), "entry 1");
    driver.memory.write_obj(4_u16, GuestAddress(event)).unwrap();
    assert!(!receive(50), "entry 2");
    assert!(receive(250), "entries 3 to 5");
    for head in 0..6 {
        driver.send(RX, head, &[(BUFFERS + u64::from(head) * 0x1000, 120, true)]);
    }
    assert!(!receive(50), "entry 6");
}

#[test]
fn ring_that_makes_no_sense_asks_for_a_reset() {
    for queue in [RX, TX] {
        let (driver, _peer) = active(0);
        driver.set_avail_index(queue, 1000);
        driver.write(VIRTIO_MMIO_QUEUE_NOTIFY, queue as u32);
        assert!(driver.needs_reset());
    }
}

/// An ARP request: who has `address`?
fn arp(address: [u8; 4]) -> Vec<u8> {
    let mut frame = vec![0; HEADER_SIZE];
    frame.extend([0xff; 6]);
    frame.extend(MAC.0);
    frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(MAC.0);
    frame.extend([172, 16, 0, 2, 0, 0, 0, 0, 0, 0]);
    frame.extend(address);
    frame
}

#[test]
fn frames_to_the_metadata_service_take_the_detour_if_it_is_for_this_interface() {
    for (listed, detour) in [("eth0", true), ("eth1", false)] {
        let mut mmds = Mmds::new(1000);
        let network_interfaces = vec![listed.to_owned()];
        let config = secretvmm_api::MmdsConfig {
            version: secretvmm_api::MmdsVersion::V2,
            network_interfaces,
            ipv4_address: None,
            imds_compat: false,
        };
        mmds.configure(&config).unwrap();
        let (net, peer) = net(&interface());
        let net = net.with_mmds(Arc::new(Mutex::new(mmds))).unwrap();
        let driver = Driver::active(net, 0);
        driver.put(BUFFERS, &arp([169, 254, 169, 254]));
        driver.put(BUFFERS + 0x1000, &arp([172, 16, 0, 1]));
        driver.send(TX, 0, &[(BUFFERS, 54, false)]);
        driver.send(TX, 1, &[(BUFFERS + 0x1000, 54, false)]);
        assert_eq!(driver.used(TX).len(), 2);
        if !detour {
            assert!(received(&peer).is_some());
        }
        assert_eq!(received(&peer).unwrap(), arp([172, 16, 0, 1]));
        assert!(received(&peer).is_none());

        driver.put(BUFFERS + 0x2000, &[0xee; 100]);
        driver.send(RX, 0, &[(BUFFERS + 0x2000, 2000, true)]);
        if detour {
            assert_eq!(driver.used(RX), [(0, 54)]);
            let frame = driver.bytes(BUFFERS + 0x2000, 54);
            assert_eq!(frame[..HEADER_SIZE], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
            assert_eq!(frame[HEADER_SIZE..HEADER_SIZE + 14], [6, 0, 0xac, 0x10, 0, 2, 6, 1, 0x23, 0x45, 0x67, 1, 8, 6]);
        } else {
            assert_eq!(driver.used(RX), []);
        }
    }
}

#[test]
fn real_tap_takes_and_gives_frames() {
    let done = crate::devices::virtio::net::tap::tests::in_namespace(|| {
        let run = |command: &str| {
            let status = std::process::Command::new("sh").args(["-c", command]).status().unwrap();
            assert!(status.success(), "{command}");
        };
        let driver = Driver::active(Net::open(&interface()).unwrap(), MERGE | OFFLOADS);
        run("ip addr add 172.16.0.1/24 dev tap0 && ip link set tap0 up");
        for head in 0..16 {
            driver.send(RX, head, &[(BUFFERS + u64::from(head) * 0x2000, 0x2000, true)]);
        }
        driver.put(BUFFERS + 0x10_0000, &arp([172, 16, 0, 1]));
        driver.send(TX, 0, &[(BUFFERS + 0x10_0000, 54, false)]);
        assert_eq!(counted(&driver, |m| &m.tx_packets_count), 1);
        let answered = |_| {
            driver.transport.host_event();
            std::thread::sleep(std::time::Duration::from_millis(10));
            // The host may have said something on its own as well.
            driver.used(RX).iter().any(|(head, _)| {
                let frame = driver.bytes(BUFFERS + u64::from(*head) * 0x2000, 54);
                frame[12..18] == MAC.0 && frame[24..26] == [8, 6] && frame[32..34] == [0, 2]
            })
        };
        assert!((0..500).any(answered), "no ARP reply");
    });
    if !done {
        eprintln!("SKIPPED: no right to a network namespace and a TAP");
    }
}

fn ops(size: u64) -> Option<Limits> {
    let bucket = TokenBucket { size, one_time_burst: None, refill_time: 1_000_000_000 };
    Some(Limits { bandwidth: None, ops: Some(bucket) })
}

#[test]
fn rate_limits_hold_frames_back_until_they_are_lifted() {
    let limited = NetworkInterface { rx_rate_limiter: ops(2), tx_rate_limiter: ops(1), ..interface() };
    let (net, peer) = net(&limited);
    let driver = Driver::active(net, 0);
    for head in 0..3 {
        driver.send(RX, head, &[(BUFFERS + u64::from(head) * 0x1000, 100, true)]);
        driver.send(TX, head, &[(BUFFERS, 72, false)]);
        peer.send(&frame(50 + usize::from(head))).unwrap();
    }
    driver.transport.host_event();
    driver.transport.host_event();
    assert_eq!((driver.used(RX).len(), driver.used(TX).len()), (2, 1));
    assert_eq!(counted(&driver, |m| &m.rx_rate_limiter_throttled), 1);
    assert_eq!(counted(&driver, |m| &m.tx_rate_limiter_throttled), 1);

    let update = NetworkInterfaceUpdate { iface_id: "eth0".into(), rx_rate_limiter: ops(0), tx_rate_limiter: ops(0) };
    driver.transport.change(|net| (net.update(&update), ConfigChange::No));
    driver.transport.host_event();
    assert_eq!(driver.used(RX), [(0, 62), (1, 63), (2, 64)], "none was lost");
    assert_eq!(driver.bytes(BUFFERS + 0x2000 + 12, 52), frame(52)[HEADER_SIZE..]);
    assert_eq!(driver.used(TX).len(), 3);
}

/// A descriptor with whatever a hostile driver may write into it.
fn descriptor() -> impl Strategy<Value = (u64, u32, u16, u16)> {
    let address = prop_oneof![
        4 => BUFFERS..BUFFERS + 0x10_0000,
        1 => Just(Driver::<Net>::rings(0)),
        1 => Just((64 << 20) - 8),
        1 => any::<u64>(),
    ];
    let len = prop_oneof![4 => 0_u32..3000, 1 => Just(64), 1 => any::<u32>()];
    let flags =
        prop_oneof![6 => Just(WRITE), 3 => Just(WRITE | NEXT), 3 => Just(NEXT), 1 => Just(INDIRECT), 1 => any::<u16>()];
    (address, len, flags, 0..18_u16)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn hostile_rings_are_survived(
        features in prop_oneof![Just(0), Just(MERGE), Just(MERGE | OFFLOADS), Just(MERGE | 1 << VIRTIO_RING_F_EVENT_IDX)],
        tables in prop::collection::vec(prop::collection::vec(descriptor(), 16), 2),
        steps in prop::collection::vec((0..2_usize, 0..18_u16, 1..4000_usize), 1..40),
    ) {
        let (driver, peer) = active(features);
        for (queue, table) in tables.iter().enumerate() {
            for (at, (address, len, flags, next)) in (0..).zip(table) {
                driver.descriptor(queue, at, *address, *len, *flags, *next);
            }
        }
        for (queue, head, len) in steps {
            driver.offer(queue, head);
            let _ = peer.send(&frame(len));
            driver.write(VIRTIO_MMIO_QUEUE_NOTIFY, queue as u32);
            driver.transport.host_event();
            while received(&peer).is_some() {}
        }
        // Whatever has happened: after a reset it works.
        driver.write(VIRTIO_MMIO_STATUS, 0);
        driver.memory.write_slice(&[0; 0x2_0000], GuestAddress(Driver::<Net>::rings(0))).unwrap();
        driver.negotiate(0);
        driver.set_up_queue(RX);
        driver.set_up_queue(TX);
        driver.write(VIRTIO_MMIO_STATUS, 15);
        driver.send(TX, 0, &[(BUFFERS, 72, false)]);
        prop_assert_eq!(received(&peer).unwrap().len(), 72);
    }
}
