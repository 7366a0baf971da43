// SPDX-License-Identifier: Apache-2.0
//! Drivers that do not keep to the rules.

use std::os::unix::fs::FileExt;

use proptest::prelude::*;
use virtio_bindings::virtio_blk::*;
use virtio_bindings::virtio_mmio::*;
use vmm_sys_util::tempfile::TempFile;

use super::disk::*;
use crate::devices::virtio::HostSide;
use crate::devices::virtio::block::Block;
use crate::devices::virtio::testing::{BUFFERS, Driver, INDIRECT, NEXT, WRITE};

#[test]
fn chain_that_is_no_request_comes_back_with_what_can_be_said() {
    let (driver, file) = disk(2);
    put_header(&driver, VIRTIO_BLK_T_OUT, 0);
    let (header, data, status) = ((HEADER, 16, false), (DATA, 512, false), (STATUS, 1, true));
    let told: &[&[(u64, u32, bool)]] = &[
        // A short header, none, one in the wrong direction, one that is not in memory.
        &[(HEADER, 15, false), status],
        &[status],
        &[(HEADER, 16, true), status],
        &[(1 << 40, 16, false), data, status],
        // Out of order.
        &[header, (DATA + 0x1000, 1, true), data, status],
        &[(DATA, 512, true), header, status],
        // Data outside of memory, across its end, and as long as can be.
        &[header, (1 << 40, 512, false), status],
        &[header, (u64::MAX - 100, 512, false), status],
        &[header, (u64::MAX, 1, false), status],
        &[header, ((64 << 20) - 256, 512, false), status],
        &[header, (DATA, u32::MAX - 64, false), status],
        &[header, (1 << 40, 512, true), status],
    ];
    for chain in told {
        driver.put(STATUS, &[UNTOUCHED]);
        assert_eq!(send(&driver, chain), (IOERR, 0), "{chain:x?}");
    }
    let mute: &[&[(u64, u32, bool)]] = &[
        // No status, an empty one, one that is not in memory, or read-only.
        &[header],
        &[header, data],
        &[header, data, (STATUS, 0, true)],
        &[header, data, (64 << 20, 1, true)],
        &[header, data, (u64::MAX, 1, true)],
        &[header, data, (STATUS, 1, false)],
        &[header, (STATUS, 1, true), (1 << 40, 1, true)],
        // More than 2^32 bytes in all.
        &[header, (DATA, u32::MAX, false), (DATA, u32::MAX, false), status],
    ];
    for chain in mute {
        driver.put(STATUS, &[UNTOUCHED]);
        assert_eq!(send(&driver, chain), (UNTOUCHED, 0), "{chain:x?}");
    }
    assert_eq!(total!(driver, invalid_reqs_count), (told.len() + mute.len()) as u64);
    let mut sector = [0; 512];
    file.as_file().read_exact_at(&mut sector, 0).unwrap();
    assert_eq!(sector, [1; 512]);
}

#[test]
fn chain_that_never_ends_comes_back_with_nothing_done() {
    let (driver, file) = disk(2);
    put_header(&driver, VIRTIO_BLK_T_OUT, 0);
    // (flags, next) of the descriptor behind header and data.
    for (flags, next) in [(NEXT, 0), (NEXT, 2), (NEXT, 16), (NEXT, u16::MAX), (NEXT | WRITE, 0), (NEXT | WRITE, 2)] {
        driver.descriptor(0, 0, HEADER, 16, NEXT, 1);
        driver.descriptor(0, 1, DATA, 512, NEXT, 2);
        driver.descriptor(0, 2, STATUS, 1, flags, next);
        driver.offer(0, 0);
        driver.write(VIRTIO_MMIO_QUEUE_NOTIFY, 0);
        assert_eq!(driver.bytes(STATUS, 1), [UNTOUCHED], "{flags} {next}");
    }
    assert_eq!(driver.used(0), [(0, 0); 6]);
    assert!(!driver.needs_reset());
    let mut sector = [0; 512];
    file.as_file().read_exact_at(&mut sector, 0).unwrap();
    assert_eq!(sector, [1; 512]);
}

#[test]
fn indirect_table_that_is_none_comes_back_with_nothing_done() {
    let (driver, _file) = disk(2);
    put_header(&driver, VIRTIO_BLK_T_IN, 0);
    let table = BUFFERS + 0x10_0000;
    driver.write_descriptor(table, HEADER, 16, NEXT, 1);
    driver.write_descriptor(table + 16, DATA, 512, NEXT | WRITE, 2);
    driver.write_descriptor(table + 32, STATUS, 1, WRITE, 0);
    let offer = |address, len| {
        driver.descriptor(0, 0, address, len, INDIRECT, 0);
        driver.offer(0, 0);
        driver.write(VIRTIO_MMIO_QUEUE_NOTIFY, 0);
        (driver.bytes(STATUS, 1)[0], driver.used(0).last().unwrap().1)
    };
    for (address, len) in [(table, 0), (table, 47), (table, 49), (table, 32), (table, u32::MAX), (1 << 40, 48)] {
        assert_eq!(offer(address, len), (UNTOUCHED, 0), "{address:x} {len}");
    }
    for address in [u64::MAX, u64::MAX - 15, (64 << 20) - 32] {
        assert_eq!(offer(address, 48), (UNTOUCHED, 0), "{address:x}");
    }
    // A table in a table, the same one even.
    driver.write_descriptor(table + 32, table, 48, INDIRECT, 0);
    assert_eq!(offer(table, 48), (UNTOUCHED, 0));
    // A table longer than any queue.
    for at in 0..300 {
        driver.write_descriptor(table + at * 16, DATA, 0, NEXT, at as u16 + 1);
    }
    driver.write_descriptor(table + 300 * 16, STATUS, 1, WRITE, 0);
    assert_eq!(offer(table, 301 * 16), (UNTOUCHED, 0));
    assert!(!driver.needs_reset());
}

#[test]
fn descriptors_and_header_are_read_once() {
    // The data land on the descriptors, the header and the avail ring's entries that are being served.
    let (driver, file) = disk(8);
    file.as_file().write_all_at(&[0xff; 8 * 512], 0).unwrap();
    let table = Driver::<Block>::rings(0);
    assert_eq!(
        request(&driver, VIRTIO_BLK_T_IN, 0, &[(table, 512, true), (HEADER, 16, true), (DATA, 496, true)]),
        (OK, 1025)
    );
    assert_eq!(driver.bytes(table, 512), [0xff; 512]);
    assert_eq!(driver.bytes(HEADER, 16), [0xff; 16]);
    // Data that land on the status come before it.
    assert_eq!(request(&driver, VIRTIO_BLK_T_IN, 0, &[(STATUS, 512, true)]), (OK, 513));
}

#[test]
fn ring_that_makes_no_sense_stops_the_device_until_reset() {
    for (head, index) in [(16, 1), (u16::MAX, 1), (0, 17), (0, u16::MAX)] {
        let (driver, _file) = disk(1);
        driver.offer(0, head);
        driver.set_avail_index(0, index);
        driver.write(VIRTIO_MMIO_QUEUE_NOTIFY, 0);
        assert!(driver.needs_reset(), "{head} {index}");
        assert!(total!(driver, event_fails) == 1);
        driver.write(VIRTIO_MMIO_QUEUE_NOTIFY, 0);
        assert_eq!(total!(driver, event_fails), 1);
    }
}

#[test]
fn notification_without_requests_or_of_no_queue_does_nothing() {
    let (driver, _file) = disk(1);
    for index in (0..1000).chain([u32::MAX]) {
        driver.write(VIRTIO_MMIO_QUEUE_NOTIFY, index);
    }
    assert_eq!(driver.used(0), []);
    assert!(!driver.needs_reset() && !driver.interrupted());
}

/// A descriptor as a hostile driver may write it: address, length, flags, next.
type Raw = (u64, u32, u16, u16);

/// Where the descriptors are once more, as an indirect table.
const TABLE: u64 = BUFFERS + 0x8000;

/// A descriptor that points to `places` or nowhere, of a length that matters, with any flags.
fn descriptor(places: &'static [u64]) -> impl Strategy<Value = Raw> {
    let wild = prop_oneof![Just(1 << 40), Just(u64::MAX), Just((64 << 20) - 8), any::<u64>()];
    let near = (proptest::sample::select(places), 0..64_u64).prop_map(|(place, offset)| place + offset);
    let lengths: &[u32] = &[0, 1, 16, 17, 20, 32, 48, 256, 511, 512, 513, 1024, 8192];
    let len = prop_oneof![4 => proptest::sample::select(lengths), 1 => any::<u32>()];
    (prop_oneof![8 => near, 1 => wild], len, 0..8_u16, 0..18_u16)
}

/// Four requests of four descriptors each, of which some are replaced.
fn descriptors(places: &'static [u64]) -> impl Strategy<Value = Vec<Raw>> {
    let request = (any::<bool>(), proptest::sample::select(&[16_u32, 20, 512, 1024][..]));
    let requests = proptest::collection::vec(request, 4);
    let replaced = proptest::collection::vec((0..16_usize, descriptor(places)), 0..4);
    (requests, replaced).prop_map(|(requests, replaced)| {
        let mut table = Vec::new();
        for (at, (write, len)) in (0..).zip(requests) {
            let (first, direction) = (at as u16 * 4, NEXT | if write { WRITE } else { 0 });
            table.push((HEADER + at * 16, 16, NEXT, first + 1));
            table.push((DATA, len, direction, first + 2));
            table.push((DATA + 0x2000, len, direction, first + 3));
            table.push((STATUS + at, 1, WRITE, 0));
        }
        replaced.into_iter().for_each(|(at, raw)| table[at] = raw);
        table
    })
}

/// Headers of requests that make some sense.
fn headers() -> impl Strategy<Value = Vec<(u32, u64)>> {
    let kind = prop_oneof![4 => 0..2_u32, 2 => 2..12_u32, 1 => any::<u32>()];
    proptest::collection::vec((kind, prop_oneof![6 => 0..10_u64, 1 => any::<u64>()]), 4)
}

/// What is made available; mostly the requests' beginnings.
fn heads(size: u16) -> impl Strategy<Value = Vec<u16>> {
    proptest::collection::vec(prop_oneof![4 => (0..4_u16).prop_map(|at| at * 4), 1 => 0..size], 0..16)
}

/// Has the device serve `heads` of a table of `descriptors`.
fn serve(descriptors: &[Raw], headers: &[(u32, u64)], heads: &[u16]) -> (Driver<Block>, TempFile) {
    let (driver, file) = disk(8);
    for (at, (kind, sector)) in (0..).zip(headers) {
        driver.put(HEADER + at * 16, &kind.to_le_bytes());
        driver.put(HEADER + at * 16 + 8, &sector.to_le_bytes());
    }
    for (at, (address, len, flags, next)) in (0..).zip(descriptors) {
        driver.descriptor(0, at, *address, *len, *flags, *next);
        driver.write_descriptor(TABLE + u64::from(at) * 16, *address, *len, *flags, *next);
    }
    heads.iter().for_each(|head| driver.offer(0, *head));
    driver.write(VIRTIO_MMIO_QUEUE_NOTIFY, 0);
    (driver, file)
}

fn config() -> ProptestConfig {
    ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn chains_of_any_kind_come_back_in_order(
        descriptors in descriptors(&[HEADER, STATUS, DATA, DATA + 0x2000, TABLE]),
        headers in headers(),
        heads in heads(16),
    ) {
        let (driver, file) = serve(&descriptors, &headers, &heads);
        // A flush can take as long as a turn.
        heads.iter().for_each(|_| driver.transport.host_event());
        let used = driver.used(0);
        prop_assert!(!driver.needs_reset());
        prop_assert_eq!(used.iter().map(|(head, _)| *head as u16).collect::<Vec<_>>(), heads);
        prop_assert_eq!(file.as_file().metadata().unwrap().len(), 8 * 512);
        prop_assert!(used.iter().all(|(_, len)| *len <= 8 * 512 + 1), "more was written than a disk has: {used:?}");
    }

    #[test]
    fn chains_that_write_over_the_rings_end(
        descriptors in descriptors(&[HEADER, STATUS, DATA, TABLE, 0x10_0000, 0x10_0080, 0x10_4000, 0x10_8000]),
        headers in headers(),
        heads in heads(20),
    ) {
        let (driver, file) = serve(&descriptors, &headers, &heads);
        driver.transport.host_event();
        prop_assert_eq!(file.as_file().metadata().unwrap().len(), 8 * 512);
        // Whatever was done to it, a reset makes it whole.
        driver.write(VIRTIO_MMIO_STATUS, 0);
        prop_assert_eq!(driver.read(VIRTIO_MMIO_STATUS), 0);
        prop_assert_eq!(total!(driver, activate_fails), 0);
    }
}
