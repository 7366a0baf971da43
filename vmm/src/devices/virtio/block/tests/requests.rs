// SPDX-License-Identifier: Apache-2.0
//! Drivers that keep to the rules.

use std::os::unix::fs::FileExt;

use secretvmm_api::{CacheType, Drive, IoEngine};
use virtio_bindings::virtio_blk::*;
use virtio_bindings::virtio_mmio::*;

use super::disk::*;
use crate::devices::virtio::VirtioDevice;
use crate::devices::virtio::block::Block;
use crate::devices::virtio::testing::{BUFFERS, Driver, INDIRECT, NEXT, WRITE};

#[test]
fn read_and_write_reach_the_file() {
    let (driver, file) = disk(8);
    assert_eq!(request(&driver, VIRTIO_BLK_T_IN, 2, &[(DATA, 1024, true)]), (OK, 1025));
    assert_eq!(driver.bytes(DATA, 1024), [[3; 512], [4; 512]].concat());
    assert!(driver.interrupted());

    driver.put(DATA, &[0xaa; 512]);
    assert_eq!(request(&driver, VIRTIO_BLK_T_OUT, 7, &[(DATA, 512, false)]), (OK, 1));
    let mut sector = [0; 512];
    file.as_file().read_exact_at(&mut sector, 7 * 512).unwrap();
    assert_eq!(sector, [0xaa; 512]);

    assert_eq!(request(&driver, VIRTIO_BLK_T_FLUSH, 0, &[]), (OK, 1));
    assert_eq!([total!(driver, read_bytes), total!(driver, read_count)], [1024, 1]);
    assert_eq!([total!(driver, write_bytes), total!(driver, write_count)], [512, 1]);
    assert_eq!([total!(driver, flush_count), total!(driver, queue_event_count)], [1, 3]);
    assert_eq!(total!(driver, execute_fails) + total!(driver, invalid_reqs_count), 0);
}

#[test]
fn read_and_write_of_many_buffers_take_all_of_them_in_order() {
    let (driver, file) = disk(200);
    // 200 buffers of half a sector in an indirect table: more than one system call takes.
    let table = BUFFERS + 0x10_0000;
    let entry = |at: u64, address, len, flags| {
        driver.write_descriptor(table + at * 16, address, len, flags, at as u16 + 1);
    };
    for (kind, write) in [(VIRTIO_BLK_T_IN, WRITE), (VIRTIO_BLK_T_OUT, 0)] {
        put_header(&driver, kind, 50);
        entry(0, HEADER, 16, NEXT);
        for at in 0..200 {
            // Apart from each other, and backwards.
            entry(1 + at, DATA + (200 - at) * 4096, 256, NEXT | write);
        }
        entry(201, STATUS, 1, WRITE);
        driver.descriptor(0, 0, table, 202 * 16, INDIRECT, 0);
        driver.offer(0, 0);
        driver.write(VIRTIO_MMIO_QUEUE_NOTIFY, 0);
        assert_eq!(driver.bytes(STATUS, 1), [OK]);
        for at in 0..200 {
            let place = DATA + (200 - at) * 4096;
            assert_eq!(driver.bytes(place, 256), [if write == 0 { 0x55 } else { 51 + (at / 2) as u8 }; 256]);
            driver.put(place, &[0x55; 256]);
        }
    }
    assert_eq!(driver.used(0), [(0, 200 * 256 + 1), (0, 1)]);
    let mut sectors = vec![0; 102 * 512];
    file.as_file().read_exact_at(&mut sectors, 49 * 512).unwrap();
    assert_eq!(sectors, [vec![50; 512], vec![0x55; 100 * 512], vec![151; 512]].concat());
}

#[test]
fn request_in_any_layout_is_the_same_request() {
    let (driver, file) = disk(8);
    // A header in three parts, one of them with nothing in it; data and status in one buffer.
    put_header(&driver, VIRTIO_BLK_T_IN, 3);
    let header = [(HEADER, 1, false), (HEADER + 1, 0, false), (HEADER + 1, 14, false), (HEADER + 15, 1, false)];
    let chain = [&header[..], &[(DATA, 100, true), (DATA + 100, 0, true), (DATA + 100, 413, true)]].concat();
    assert_eq!(send(&driver, &chain).1, 513);
    assert_eq!(driver.bytes(DATA, 513), [vec![4; 512], vec![OK]].concat());

    // Header and data in one buffer.
    put_header(&driver, VIRTIO_BLK_T_OUT, 5);
    driver.put(HEADER + 16, &[0x77; 240]);
    driver.put(DATA, &[0x78; 272]);
    assert_eq!(send(&driver, &[(HEADER, 256, false), (DATA, 272, false), (STATUS, 1, true)]), (OK, 1));
    let mut sector = [0; 512];
    file.as_file().read_exact_at(&mut sector, 5 * 512).unwrap();
    assert_eq!(sector.to_vec(), [vec![0x77; 240], vec![0x78; 272]].concat());
}

#[test]
fn get_id_gives_twenty_bytes_of_the_id() {
    let (driver, _file) = disk(1);
    assert_eq!(request(&driver, VIRTIO_BLK_T_GET_ID, 0, &[(DATA, 3, true), (DATA + 3, 17, true)]), (OK, 21));
    assert_eq!(driver.bytes(DATA, 20), b"rootfs\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    assert_eq!(request(&driver, VIRTIO_BLK_T_GET_ID, 0, &[(DATA, 64, true)]), (OK, 20));
    assert_eq!(request(&driver, VIRTIO_BLK_T_GET_ID, 0, &[(DATA, 19, true)]), (IOERR, 0));

    let file = file(1);
    let long = Drive { drive_id: "a_drive_with_a_rather_long_name".to_owned(), ..drive(file.as_path()) };
    let driver = Driver::active(Block::open(&long).unwrap(), 0);
    assert_eq!(request(&driver, VIRTIO_BLK_T_GET_ID, 0, &[(DATA, 20, true)]), (OK, 21));
    assert_eq!(driver.bytes(DATA, 20), b"a_drive_with_a_rathe");
}

#[test]
fn features_are_those_of_the_drive() {
    let file = file(3);
    let own = |features: u64| features & 0xff_ffff;
    let features = |drive: &Drive| own(Driver::new(Block::open(drive).unwrap()).features());
    let writeback = drive(file.as_path());
    let any = 1 << VIRTIO_BLK_F_SEG_MAX;
    let erases = 1 << VIRTIO_BLK_F_DISCARD | 1 << VIRTIO_BLK_F_WRITE_ZEROES;
    let flush = 1 << VIRTIO_BLK_F_FLUSH;
    assert_eq!(features(&writeback), any | flush | erases);
    assert_eq!(features(&Drive { cache_type: CacheType::Unsafe, ..writeback.clone() }), any | erases);
    let read_only = Drive { is_read_only: Some(true), ..writeback.clone() };
    assert_eq!(features(&read_only), any | flush | 1 << VIRTIO_BLK_F_RO);
    assert_eq!(features(&Drive { io_engine: Some(IoEngine::Async), ..writeback.clone() }), any | flush | erases);
    let block = Block::open(&writeback).unwrap();
    let config = block.config();
    assert_eq!(config[..16], [3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 254, 0, 0, 0]);
    // 1 GiB in one range each, at pages, as holes if the driver lets them be.
    let (gib, one) = ([0, 0, 32, 0], [1, 0, 0, 0]);
    assert_eq!(config[36..], [gib, one, [8, 0, 0, 0], gib, one, one].concat());
}

#[test]
fn erased_sectors_are_zero_and_their_neighbours_are_not() {
    for (kind, flags) in [
        (VIRTIO_BLK_T_DISCARD, 0),
        (VIRTIO_BLK_T_WRITE_ZEROES, VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP),
        (VIRTIO_BLK_T_WRITE_ZEROES, 0),
    ] {
        let (driver, file) = disk(24);
        let (status, len) = erase(&driver, kind, 3, 18, flags);
        assert_eq!(len, 1);
        let erased = match status {
            OK => 0,
            // Not every file system has zeroes without holes; the guest writes them then.
            UNSUPP if flags == 0 && kind == VIRTIO_BLK_T_WRITE_ZEROES => continue,
            other => panic!("{kind} {flags}: {other}"),
        };
        let mut disk = vec![0; 24 * 512];
        file.as_file().read_exact_at(&mut disk, 0).unwrap();
        for (sector, bytes) in (0_u8..).zip(disk.chunks(512)) {
            let expected = if (3..21).contains(&sector) { erased } else { sector + 1 };
            assert_eq!(bytes, [expected; 512], "{kind} {flags}: sector {sector}");
        }
        assert_eq!(file.as_file().metadata().unwrap().len(), 24 * 512);
    }
}
