// SPDX-License-Identifier: Apache-2.0
//! Requests that are answered with an error, and hosts that fail.

use std::os::unix::fs::FileExt;

use secretvmm_api::{CacheType, Drive};
use virtio_bindings::virtio_blk::*;

use super::disk::*;
use crate::devices::virtio::block::Block;
use crate::devices::virtio::testing::Driver;
use crate::devices::virtio::{ConfigChange, VirtioDevice};

#[test]
fn flush_that_was_not_offered_is_unsupported() {
    let file = file(1);
    let unsafe_cache = Drive { cache_type: CacheType::Unsafe, ..drive(file.as_path()) };
    let driver = Driver::active(Block::open(&unsafe_cache).unwrap(), 0);
    assert_eq!(request(&driver, VIRTIO_BLK_T_FLUSH, 0, &[]), (UNSUPP, 1));
}

#[test]
fn writes_of_a_driver_without_flush_are_durable() {
    // There is no way to see that they are; only that the path is taken and works.
    let file = file(1);
    let driver = Driver::active(Block::open(&drive(file.as_path())).unwrap(), 0);
    assert_eq!(request(&driver, VIRTIO_BLK_T_OUT, 0, &[(DATA, 512, false)]), (OK, 1));
    driver.transport.change(|block| {
        assert!(block.write_through);
        block.reset();
        assert!(!block.write_through);
        ((), ConfigChange::No)
    });
}

#[test]
fn read_only_drive_takes_no_write() {
    let file = file(1);
    let read_only = Drive { is_read_only: Some(true), ..drive(file.as_path()) };
    let driver = Driver::active(Block::open(&read_only).unwrap(), 0);
    assert_eq!(request(&driver, VIRTIO_BLK_T_OUT, 0, &[(DATA, 512, false)]), (IOERR, 1));
    assert_eq!(request(&driver, VIRTIO_BLK_T_IN, 0, &[(DATA, 512, true)]), (OK, 513));
    assert_eq!(driver.bytes(DATA, 512), [1; 512]);
}

#[test]
fn request_outside_the_disk_is_refused() {
    let (driver, file) = disk(4);
    for sector in [4, 3, 1 << 55, (1 << 55) - 1, u64::MAX, u64::MAX - 1] {
        assert_eq!(request(&driver, VIRTIO_BLK_T_IN, sector, &[(DATA, 1024, true)]), (IOERR, 0), "{sector}");
        assert_eq!(request(&driver, VIRTIO_BLK_T_OUT, sector, &[(DATA, 1024, false)]), (IOERR, 1), "{sector}");
    }
    assert_eq!(file.as_file().metadata().unwrap().len(), 4 * 512);
    assert_eq!(request(&driver, VIRTIO_BLK_T_IN, 4, &[]), (OK, 1));
    assert_eq!(request(&driver, VIRTIO_BLK_T_IN, 5, &[]), (IOERR, 1));
    for len in [1, 511, 513] {
        assert_eq!(request(&driver, VIRTIO_BLK_T_IN, 0, &[(DATA, len, true)]), (IOERR, 0), "{len}");
        assert_eq!(request(&driver, VIRTIO_BLK_T_OUT, 0, &[(DATA, len, false)]), (IOERR, 1), "{len}");
    }
    assert_eq!(total!(driver, invalid_reqs_count), 19);
}

#[test]
fn request_of_another_kind_is_unsupported() {
    let (driver, _file) = disk(1);
    for kind in [2, 3, 5, VIRTIO_BLK_T_SECURE_ERASE, 1 << 31, u32::MAX] {
        assert_eq!(request(&driver, kind, 0, &[(DATA, 16, false)]), (UNSUPP, 1), "{kind}");
    }
}

#[test]
fn erase_that_makes_no_sense_changes_nothing() {
    let (driver, file) = disk(8);
    let (discard, zeroes) = (VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES);
    for (sector, count) in [(0, 0), (0, 9), (8, 1), (u64::MAX, 1), (1 << 55, 2), (0, u32::MAX)] {
        assert_eq!(erase(&driver, discard, sector, count, 0), (IOERR, 1), "{sector} {count}");
        assert_eq!(erase(&driver, zeroes, sector, count, 1), (IOERR, 1), "{sector} {count}");
    }
    for (kind, flags) in [(discard, 1), (discard, 2), (zeroes, 2), (zeroes, 3), (zeroes, u32::MAX)] {
        assert_eq!(erase(&driver, kind, 0, 1, flags), (UNSUPP, 1), "{kind} {flags}");
    }
    driver.put(DATA, &[0; 32]);
    for len in [0, 15, 17, 32] {
        assert_eq!(request(&driver, discard, 0, &[(DATA, len, false)]), (IOERR, 1), "{len}");
    }
    assert_eq!(request(&driver, discard, 0, &[(DATA, 16, true)]).0, IOERR);

    let read_only = Drive { is_read_only: Some(true), ..drive(file.as_path()) };
    let reader = Driver::active(Block::open(&read_only).unwrap(), 0);
    assert_eq!(erase(&reader, discard, 0, 1, 0), (IOERR, 1));
    let mut disk = vec![0; 8 * 512];
    file.as_file().read_exact_at(&mut disk, 0).unwrap();
    assert!((1..).zip(disk.chunks(512)).all(|(number, bytes)| bytes == [number; 512]));
}

#[test]
fn data_of_the_wrong_direction_are_refused() {
    let (driver, file) = disk(2);
    driver.put(DATA, &[0x99; 512]);
    assert_eq!(request(&driver, VIRTIO_BLK_T_OUT, 0, &[(DATA, 512, true)]), (IOERR, 0));
    assert_eq!(request(&driver, VIRTIO_BLK_T_IN, 0, &[(DATA, 512, false)]), (IOERR, 1));
    assert_eq!(driver.bytes(DATA, 512), [0x99; 512]);
    let mut sector = [0; 512];
    file.as_file().read_exact_at(&mut sector, 0).unwrap();
    assert_eq!(sector, [1; 512]);
}

#[test]
fn file_that_has_shrunk_gives_what_it_has_and_an_error() {
    let (driver, file) = disk(8);
    file.as_file().set_len(3 * 512 + 100).unwrap();
    driver.put(DATA, &[0; 2048]);
    assert_eq!(request(&driver, VIRTIO_BLK_T_IN, 2, &[(DATA, 600, true), (DATA + 600, 1448, true)]), (IOERR, 612));
    assert_eq!(driver.bytes(DATA, 2048), [vec![3; 512], vec![4; 100], vec![0; 1436]].concat());
    assert_eq!(request(&driver, VIRTIO_BLK_T_IN, 7, &[(DATA, 512, true)]), (IOERR, 0));
    assert_eq!([total!(driver, read_bytes), total!(driver, read_count), total!(driver, execute_fails)], [612, 0, 2]);
}

#[test]
fn host_that_fails_is_an_io_error() {
    let (driver, _file) = disk(8);
    let swap = |path, write| {
        let file = std::fs::OpenOptions::new().read(true).write(write).open(path).unwrap();
        driver.transport.change(|block| (block.disk.file = file, ConfigChange::No));
    };
    // ENOSPC, and EIO: nothing is mapped at address 0.
    swap("/dev/full", true);
    assert_eq!(request(&driver, VIRTIO_BLK_T_OUT, 0, &[(DATA, 512, false)]), (IOERR, 1));
    swap("/proc/self/mem", false);
    assert_eq!(request(&driver, VIRTIO_BLK_T_IN, 0, &[(DATA, 512, true)]), (IOERR, 0));
    // A flush of what cannot be flushed.
    swap("/dev/full", true);
    assert_eq!(request(&driver, VIRTIO_BLK_T_FLUSH, 0, &[]), (IOERR, 1));
    assert_eq!(total!(driver, execute_fails), 3);
    assert_eq!(total!(driver, write_count) + total!(driver, flush_count), 0);
}
