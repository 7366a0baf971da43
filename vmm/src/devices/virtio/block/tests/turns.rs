// SPDX-License-Identifier: Apache-2.0
//! Limits, turns and large requests.

use std::os::unix::fs::FileExt;
use std::time::Duration;

use secretvmm_api::Drive;
use virtio_bindings::virtio_blk::*;
use virtio_bindings::virtio_mmio::*;
use vmm_sys_util::tempfile::TempFile;

use super::disk::*;
use crate::devices::virtio::block::Block;
use crate::devices::virtio::testing::{Driver, NEXT, WRITE};
use crate::devices::virtio::{ConfigChange, HostSide, VirtioDevice};

#[test]
fn request_over_the_limit_waits_in_the_queue() {
    for limits in [limits(1024, 100), limits(1 << 30, 1)] {
        let file = file(8);
        let limited = Drive { rate_limiter: Some(limits), ..drive(file.as_path()) };
        let driver = Driver::active(Block::open(&limited).unwrap(), 0);
        assert_eq!(request(&driver, VIRTIO_BLK_T_IN, 0, &[(DATA, 1024, true)]), (OK, 1025));
        driver.put(STATUS, &[UNTOUCHED]);
        driver.put(DATA, &[0; 512]);
        driver.send(0, 3, &[(HEADER, 16, false), (DATA, 512, true), (STATUS, 1, true)]);
        for _ in 0..100 {
            driver.write(VIRTIO_MMIO_QUEUE_NOTIFY, 0);
            driver.transport.host_event();
        }
        assert_eq!(driver.used(0), [(0, 1025)]);
        assert_eq!(driver.bytes(STATUS, 1), [UNTOUCHED]);
        assert!(!woken(&driver));
        assert_eq!(total!(driver, rate_limiter_throttled_events), 201);

        // The limit goes: the main thread hears of it.
        change(&driver, &update(None, Some(self::limits(0, 0)))).unwrap();
        assert!(woken(&driver));
        driver.transport.host_event();
        assert_eq!(driver.used(0), [(0, 1025), (3, 513)]);
        assert_eq!(driver.bytes(DATA, 512), [1; 512]);
    }
}

#[test]
fn reset_while_a_request_waits_forgets_it() {
    let file = file(8);
    let limited = Drive { rate_limiter: Some(limits(512, 100)), ..drive(file.as_path()) };
    let driver = Driver::active(Block::open(&limited).unwrap(), 0);
    assert_eq!(request(&driver, VIRTIO_BLK_T_IN, 0, &[(DATA, 512, true)]), (OK, 513));
    driver.put(STATUS, &[UNTOUCHED]);
    driver.send(0, 3, &[(HEADER, 16, false), (DATA, 512, true), (STATUS, 1, true)]);
    driver.write(VIRTIO_MMIO_STATUS, 0);
    change(&driver, &update(None, Some(limits(0, 0)))).unwrap();
    driver.transport.host_event();
    assert_eq!(driver.bytes(STATUS, 1), [UNTOUCHED]);
    assert_eq!(driver.used(0).len(), 1);
}

#[test]
fn long_queue_is_served_in_turns() {
    let (driver, _file) = disk(1);
    driver.transport.change(|block| (block.turns.set_length(Duration::ZERO), ConfigChange::No));
    put_header(&driver, VIRTIO_BLK_T_IN, 0);
    driver.descriptor(0, 0, HEADER, 16, NEXT, 1);
    driver.descriptor(0, 1, DATA, 512, NEXT | WRITE, 2);
    driver.descriptor(0, 2, STATUS, 1, WRITE, 0);
    (0..3).for_each(|_| driver.offer(0, 0));
    driver.write(VIRTIO_MMIO_QUEUE_NOTIFY, 0);
    assert_eq!(driver.used(0).len(), 1);
    assert!(woken(&driver) && driver.interrupted());
    driver.transport.host_event();
    driver.transport.host_event();
    assert_eq!(driver.used(0).len(), 3);
}

/// A file of 3 MiB and a half, and a driver that has asked for all of it in one request, two buffers of data.
fn large(kind: u32) -> (Driver<Block>, TempFile, Vec<u8>) {
    let contents: Vec<u8> = (0..7 << 19).map(|at: u32| (at % 253) as u8).collect();
    let file = TempFile::new().unwrap();
    file.as_file().write_all_at(&contents, 0).unwrap();
    let driver = Driver::active(Block::open(&drive(file.as_path())).unwrap(), 1 << VIRTIO_BLK_F_FLUSH);
    driver.transport.change(|block| (block.turns.set_length(Duration::ZERO), ConfigChange::No));
    let direction = if kind == VIRTIO_BLK_T_IN { WRITE } else { 0 };
    put_header(&driver, kind, 0);
    driver.descriptor(0, 0, HEADER, 16, NEXT, 1);
    driver.descriptor(0, 1, DATA, 5 << 18, NEXT | direction, 2);
    driver.descriptor(0, 2, DATA + 0x80_0000, 9 << 18, NEXT | direction, 3);
    driver.descriptor(0, 3, STATUS, 1, WRITE, 0);
    (driver, file, contents)
}

#[test]
fn large_read_goes_on_turn_by_turn_and_is_charged_once() {
    let (driver, _file, contents) = large(VIRTIO_BLK_T_IN);
    change(&driver, &update(None, Some(limits(7 << 19, 1)))).unwrap();
    driver.offer(0, 0);
    driver.write(VIRTIO_MMIO_QUEUE_NOTIFY, 0);
    for _ in 0..3 {
        assert!(driver.used(0).is_empty() && woken(&driver));
        assert_eq!(driver.bytes(STATUS, 1), [UNTOUCHED]);
        driver.transport.host_event();
    }
    assert_eq!(driver.used(0), [(0, (7 << 19) + 1)]);
    assert_eq!(driver.bytes(STATUS, 1), [OK]);
    assert_eq!([driver.bytes(DATA, 5 << 18), driver.bytes(DATA + 0x80_0000, 9 << 18)].concat(), contents);
    assert_eq!((total!(driver, read_bytes), total!(driver, read_count)), (7 << 19, 1));
}

#[test]
fn large_write_goes_on_turn_by_turn() {
    let (driver, file, contents) = large(VIRTIO_BLK_T_OUT);
    let new: Vec<u8> = contents.iter().map(|byte| !byte).collect();
    driver.put(DATA, &new[..5 << 18]);
    driver.put(DATA + 0x80_0000, &new[5 << 18..]);
    driver.offer(0, 0);
    driver.write(VIRTIO_MMIO_QUEUE_NOTIFY, 0);
    (0..3).for_each(|_| driver.transport.host_event());
    assert_eq!((driver.used(0), driver.bytes(STATUS, 1)), (vec![(0, 1)], vec![OK]));
    assert_eq!(std::fs::read(file.as_path()).unwrap(), new);
    assert_eq!((total!(driver, write_bytes), total!(driver, write_count)), (7 << 19, 1));
}

#[test]
fn large_request_begins_anew_in_the_file_of_an_update() {
    let (driver, old, contents) = large(VIRTIO_BLK_T_OUT);
    let data: Vec<u8> = contents.iter().map(|byte| !byte).collect();
    driver.put(DATA, &data[..5 << 18]);
    driver.put(DATA + 0x80_0000, &data[5 << 18..]);
    driver.offer(0, 0);
    driver.write(VIRTIO_MMIO_QUEUE_NOTIFY, 0);
    assert!(driver.transport.look(Block::is_partial), "nothing is left to go on with");
    let new = TempFile::new().unwrap();
    new.as_file().set_len(data.len() as u64).unwrap();
    change(&driver, &update(Some(new.as_path()), None)).unwrap();
    (0..8).for_each(|_| driver.transport.host_event());
    assert_eq!(driver.bytes(STATUS, 1), [OK]);
    let written = std::fs::read(new.as_path()).unwrap();
    assert!(written == data, "a part of it is in {}", old.as_path().display());
}

#[test]
fn erased_bytes_count_as_written() {
    for kind in [VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES] {
        let file = file(16);
        let limited = Drive { rate_limiter: Some(limits(4096, 100)), ..drive(file.as_path()) };
        let driver = Driver::active(Block::open(&limited).unwrap(), 0);
        assert_eq!(erase(&driver, kind, 0, 8, 0).0, OK);
        put_header(&driver, VIRTIO_BLK_T_IN, 8);
        driver.send(0, 8, &[(HEADER, 16, false), (DATA, 512, true), (STATUS, 1, true)]);
        assert_eq!(driver.bytes(STATUS, 1), [UNTOUCHED], "{kind}: the limit was not used up");
        // A range outside the disk costs nothing.
        let driver = Driver::active(Block::open(&limited).unwrap(), 0);
        assert_eq!(erase(&driver, kind, 12, 8, 0).0, IOERR);
        assert_eq!(request(&driver, VIRTIO_BLK_T_IN, 8, &[(DATA, 4096, true)]).0, OK);
    }
}

#[test]
fn large_request_that_is_changed_or_forgotten_meanwhile_begins_anew() {
    let (driver, _file, contents) = large(VIRTIO_BLK_T_IN);
    driver.offer(0, 0);
    driver.write(VIRTIO_MMIO_QUEUE_NOTIFY, 0);
    // From another sector on, and no longer all of the disk.
    put_header(&driver, VIRTIO_BLK_T_IN, 1);
    driver.descriptor(0, 2, DATA + 0x80_0000, (9 << 18) - 512, NEXT | WRITE, 3);
    (0..4).for_each(|_| driver.transport.host_event());
    assert_eq!(driver.bytes(STATUS, 1), [OK]);
    assert_eq!(driver.bytes(DATA, 5 << 18), contents[512..][..5 << 18]);

    let (driver, _file, _) = large(VIRTIO_BLK_T_IN);
    driver.offer(0, 0);
    driver.write(VIRTIO_MMIO_QUEUE_NOTIFY, 0);
    driver.transport.change(|block| {
        block.reset();
        assert!(!block.is_partial());
        ((), ConfigChange::No)
    });
}
