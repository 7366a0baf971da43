//! The device behind its transport, with drivers that keep to the rules and drivers that do not.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use proptest::prelude::*;
use secretvmm_api::{CacheType, Drive, DriveUpdate, IoEngine, RateLimiter, TokenBucket};
use virtio_bindings::virtio_blk::*;
use virtio_bindings::virtio_mmio::*;
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::tempfile::TempFile;

use super::{Block, Error};
use crate::bus::MmioDevice;
use crate::devices::virtio::testing::{BUFFERS, Driver, INDIRECT, NEXT, WRITE};
use crate::devices::virtio::{ConfigChange, HostSide, VirtioDevice};

const OK: u8 = VIRTIO_BLK_S_OK as u8;
const IOERR: u8 = VIRTIO_BLK_S_IOERR as u8;
const UNSUPP: u8 = VIRTIO_BLK_S_UNSUPP as u8;
/// What a status byte holds before the device has written it.
const UNTOUCHED: u8 = 0xee;
const HEADER: u64 = BUFFERS;
const STATUS: u64 = BUFFERS + 0x100;
const DATA: u64 = BUFFERS + 0x1000;
/// An hour, as a refill time: longer than any test.
const HOUR: u64 = 3_600_000;

/// A file in which each sector is filled with its number, from 1.
fn file(sectors: u8) -> TempFile {
    let file = TempFile::new().unwrap();
    for sector in 0..sectors {
        file.as_file().write_all_at(&[sector + 1; 512], u64::from(sector) * 512).unwrap();
    }
    file
}

fn drive(path: &Path) -> Drive {
    Drive {
        drive_id: "rootfs".to_owned(),
        is_root_device: true,
        partuuid: None,
        cache_type: CacheType::Writeback,
        is_read_only: None,
        path_on_host: Some(path.to_owned()),
        rate_limiter: None,
        io_engine: None,
        socket: None,
    }
}

fn disk(sectors: u8) -> (Driver<Block>, TempFile) {
    let file = file(sectors);
    (Driver::active(Block::open(&drive(file.as_path())).unwrap(), 1 << VIRTIO_BLK_F_FLUSH), file)
}

fn limits(bandwidth: u64, ops: u64) -> RateLimiter {
    let bucket = |size| Some(TokenBucket { size, one_time_burst: None, refill_time: HOUR });
    RateLimiter { bandwidth: bucket(bandwidth), ops: bucket(ops) }
}

fn update(path: Option<&Path>, rate_limiter: Option<RateLimiter>) -> DriveUpdate {
    DriveUpdate { drive_id: "rootfs".to_owned(), path_on_host: path.map(Path::to_owned), rate_limiter }
}

fn change(driver: &Driver<Block>, update: &DriveUpdate) -> Result<(), Error> {
    driver.transport.change(|block| block.update(update))
}

/// One of the device's counters.
macro_rules! total {
    ($driver:expr, $name:ident) => {
        $driver.transport.change(|block| (block.metrics().$name.total(), ConfigChange::No))
    };
}

fn put_header(driver: &Driver<Block>, kind: u32, sector: u64) {
    driver.put(HEADER, &kind.to_le_bytes());
    driver.put(HEADER + 8, &sector.to_le_bytes());
    driver.put(STATUS, &[UNTOUCHED]);
}

/// Sends a header, `data` and a place for the status; status and used length.
fn request(driver: &Driver<Block>, kind: u32, sector: u64, data: &[(u64, u32, bool)]) -> (u8, u32) {
    put_header(driver, kind, sector);
    let chain = [&[(HEADER, 16, false)], data, &[(STATUS, 1, true)]].concat();
    send(driver, &chain)
}

/// Sends a chain, and sees that it comes back.
fn send(driver: &Driver<Block>, chain: &[(u64, u32, bool)]) -> (u8, u32) {
    let before = driver.used(0).len();
    driver.send(0, 0, chain);
    let used = driver.used(0);
    assert_eq!((used.len(), driver.needs_reset()), (before + 1, false));
    (driver.bytes(STATUS, 1)[0], used[before].1)
}

fn capacity(driver: &Driver<Block>) -> u64 {
    let mut capacity = [0; 8];
    driver.transport.read(VIRTIO_MMIO_CONFIG.into(), &mut capacity);
    u64::from_le_bytes(capacity)
}

/// Whether the descriptor that the device has the main thread watch is readable.
fn woken(driver: &Driver<Block>) -> bool {
    let epoll = Epoll::new().unwrap();
    for descriptor in driver.transport.descriptors() {
        epoll.ctl(ControlOperation::Add, descriptor, EpollEvent::new(EventSet::IN, 0)).unwrap();
    }
    epoll.wait(100, &mut [EpollEvent::default()]).unwrap() == 1
}

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

/// Asks for `count` sectors to be erased.
fn erase(driver: &Driver<Block>, kind: u32, sector: u64, count: u32, flags: u32) -> (u8, u32) {
    driver.put(DATA, &sector.to_le_bytes());
    driver.put(DATA + 8, &count.to_le_bytes());
    driver.put(DATA + 12, &flags.to_le_bytes());
    // In two parts: how it is dealt out to buffers is the driver's affair.
    request(driver, kind, 0, &[(DATA, 5, false), (DATA + 5, 11, false)])
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
    driver.transport.change(|block| (block.turn = Duration::ZERO, ConfigChange::No));
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
    driver.transport.change(|block| (block.turn = Duration::ZERO, ConfigChange::No));
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
        assert!(!block.has_begun());
        ((), ConfigChange::No)
    });
}

#[test]
fn update_changes_the_file_and_tells_the_driver() {
    let (driver, file) = disk(4);
    let other = self::file(9);
    other.as_file().write_all_at(&[0x42; 512], 0).unwrap();
    let generation = driver.read(VIRTIO_MMIO_CONFIG_GENERATION);
    change(&driver, &update(Some(other.as_path()), None)).unwrap();
    assert_eq!(driver.read(VIRTIO_MMIO_INTERRUPT_STATUS), 2);
    assert_eq!((driver.read(VIRTIO_MMIO_CONFIG_GENERATION), capacity(&driver)), (generation + 1, 9));
    assert_eq!(request(&driver, VIRTIO_BLK_T_IN, 0, &[(DATA, 512, true)]), (OK, 513));
    assert_eq!(driver.bytes(DATA, 512), [0x42; 512]);

    // The same file, larger.
    other.as_file().set_len(20 * 512).unwrap();
    change(&driver, &update(Some(other.as_path()), None)).unwrap();
    assert_eq!(capacity(&driver), 20);

    // Limits alone are no change that a driver sees.
    let generation = driver.read(VIRTIO_MMIO_CONFIG_GENERATION);
    change(&driver, &update(None, Some(limits(1, 1)))).unwrap();
    assert_eq!(driver.read(VIRTIO_MMIO_CONFIG_GENERATION), generation);

    // What fails changes nothing, not even the limits that came with it.
    drop(file);
    let failed = change(&driver, &update(Some(Path::new("/nonexistent")), Some(limits(0, 0))));
    assert!(matches!(failed, Err(Error::Open { .. })));
    assert_eq!((capacity(&driver), driver.read(VIRTIO_MMIO_CONFIG_GENERATION)), (20, generation));
    assert_eq!(request(&driver, VIRTIO_BLK_T_IN, 0, &[(DATA, 512, true)]), (OK, 513));
    driver.send(0, 0, &[(HEADER, 16, false), (DATA, 512, true), (STATUS, 1, true)]);
    assert_eq!(total!(driver, rate_limiter_throttled_events), 1);
    assert_eq!([total!(driver, update_count), total!(driver, update_fails)], [3, 1]);
}

#[test]
fn update_of_a_read_only_drive_leaves_it_read_only() {
    let (old, new) = (file(1), file(2));
    let read_only = Drive { is_read_only: Some(true), ..drive(old.as_path()) };
    let driver = Driver::active(Block::open(&read_only).unwrap(), 0);
    change(&driver, &update(Some(new.as_path()), None)).unwrap();
    assert_eq!(request(&driver, VIRTIO_BLK_T_OUT, 0, &[(DATA, 512, false)]), (IOERR, 1));
}

fn refusal(drive: &Drive) -> String {
    Block::open(drive).unwrap_err().to_string()
}

#[test]
fn open_refuses_what_is_no_disk_and_says_what_to_do() {
    let dir = vmm_sys_util::tempdir::TempDir::new().unwrap();
    let place = |name: &str| dir.as_path().join(name);
    assert!(refusal(&drive(&place("missing"))).contains("check path_on_host"));
    assert!(refusal(&drive(dir.as_path())).contains("is a directory; give a regular file"));
    assert!(refusal(&drive(Path::new("/dev/null"))).contains("is a character device"));
    let fifo = place("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    assert!(refusal(&drive(&fifo)).contains("is a FIFO"));
    assert!(refusal(&Drive { is_read_only: Some(true), ..drive(&fifo) }).contains("is a FIFO"));
    let socket = place("socket");
    let _listener = UnixListener::bind(&socket).unwrap();
    assert!(refusal(&drive(&socket)).contains("is a socket"));
    for len in [0, 511] {
        std::fs::write(place("small"), vec![0; len]).unwrap();
        assert!(refusal(&drive(&place("small"))).contains(&format!("has {len} bytes")));
    }
    std::os::unix::fs::symlink("loop", place("loop")).unwrap();
    assert!(refusal(&drive(&place("loop"))).contains("cannot be opened"));

    let file = file(1);
    let nothing = Drive { path_on_host: None, ..drive(file.as_path()) };
    assert!(refusal(&nothing).contains("give path_on_host"));
    assert!(refusal(&Drive { socket: Some("/tmp/vu.sock".into()), ..nothing }).contains("hidden from all of them"));
}

#[test]
fn open_advice_fits_the_reason() {
    use std::io::ErrorKind::{NotFound, Other, PermissionDenied, ReadOnlyFilesystem};
    let advice = |kind: std::io::ErrorKind, read_only| super::disk::advice(&kind.into(), read_only);
    assert!(advice(PermissionDenied, false).contains("is_read_only"));
    assert!(!advice(PermissionDenied, true).contains("is_read_only"));
    assert!(advice(ReadOnlyFilesystem, false).contains("is_read_only"));
    assert!(advice(NotFound, true).contains("path_on_host"));
    assert!(!advice(Other, true).is_empty());
}

#[test]
fn open_of_odd_size_shows_whole_sectors() {
    let file = file(2);
    file.as_file().set_len(2 * 512 - 1).unwrap();
    let driver = Driver::active(Block::open(&drive(file.as_path())).unwrap(), 0);
    assert_eq!(capacity(&driver), 1);
    assert_eq!(request(&driver, VIRTIO_BLK_T_IN, 1, &[(DATA, 512, true)]), (IOERR, 0));
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
