// SPDX-License-Identifier: Apache-2.0
//! A drive behind its transport, and a driver that sends it requests.

use std::os::unix::fs::FileExt;
use std::path::Path;

use secretvmm_api::{CacheType, Drive, DriveUpdate, RateLimiter, TokenBucket};
use virtio_bindings::virtio_blk::*;
use virtio_bindings::virtio_mmio::*;
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::tempfile::TempFile;

use crate::bus::MmioDevice;
use crate::devices::virtio::HostSide;
use crate::devices::virtio::block::{Block, Error};
use crate::devices::virtio::testing::{BUFFERS, Driver};

pub(super) const OK: u8 = VIRTIO_BLK_S_OK as u8;
pub(super) const IOERR: u8 = VIRTIO_BLK_S_IOERR as u8;
pub(super) const UNSUPP: u8 = VIRTIO_BLK_S_UNSUPP as u8;
/// What a status byte holds before the device has written it.
pub(super) const UNTOUCHED: u8 = 0xee;
pub(super) const HEADER: u64 = BUFFERS;
pub(super) const STATUS: u64 = BUFFERS + 0x100;
pub(super) const DATA: u64 = BUFFERS + 0x1000;
/// An hour, as a refill time: longer than any test.
pub(super) const HOUR: u64 = 3_600_000;

/// A file in which each sector is filled with its number, from 1.
pub(super) fn file(sectors: u8) -> TempFile {
    let file = TempFile::new().unwrap();
    for sector in 0..sectors {
        file.as_file().write_all_at(&[sector + 1; 512], u64::from(sector) * 512).unwrap();
    }
    file
}

pub(super) fn drive(path: &Path) -> Drive {
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

pub(super) fn disk(sectors: u8) -> (Driver<Block>, TempFile) {
    let file = file(sectors);
    (Driver::active(Block::open(&drive(file.as_path())).unwrap(), 1 << VIRTIO_BLK_F_FLUSH), file)
}

pub(super) fn limits(bandwidth: u64, ops: u64) -> RateLimiter {
    let bucket = |size| Some(TokenBucket { size, one_time_burst: None, refill_time: HOUR });
    RateLimiter { bandwidth: bucket(bandwidth), ops: bucket(ops) }
}

pub(super) fn update(path: Option<&Path>, rate_limiter: Option<RateLimiter>) -> DriveUpdate {
    DriveUpdate { drive_id: "rootfs".to_owned(), path_on_host: path.map(Path::to_owned), rate_limiter }
}

pub(super) fn change(driver: &Driver<Block>, update: &DriveUpdate) -> Result<(), Error> {
    driver.transport.change(|block| block.update(update))
}

/// One of the device's counters.
macro_rules! total {
    ($driver:expr, $name:ident) => {
        $driver.transport.change(|block| (block.metrics().$name.total(), $crate::devices::virtio::ConfigChange::No))
    };
}
pub(super) use total;

pub(super) fn put_header(driver: &Driver<Block>, kind: u32, sector: u64) {
    driver.put(HEADER, &kind.to_le_bytes());
    driver.put(HEADER + 8, &sector.to_le_bytes());
    driver.put(STATUS, &[UNTOUCHED]);
}

/// Sends a header, `data` and a place for the status; status and used length.
pub(super) fn request(driver: &Driver<Block>, kind: u32, sector: u64, data: &[(u64, u32, bool)]) -> (u8, u32) {
    put_header(driver, kind, sector);
    let chain = [&[(HEADER, 16, false)], data, &[(STATUS, 1, true)]].concat();
    send(driver, &chain)
}

/// Sends a chain, and sees that it comes back.
pub(super) fn send(driver: &Driver<Block>, chain: &[(u64, u32, bool)]) -> (u8, u32) {
    let before = driver.used(0).len();
    driver.send(0, 0, chain);
    let used = driver.used(0);
    assert_eq!((used.len(), driver.needs_reset()), (before + 1, false));
    (driver.bytes(STATUS, 1)[0], used[before].1)
}

pub(super) fn capacity(driver: &Driver<Block>) -> u64 {
    let mut capacity = [0; 8];
    driver.transport.read(VIRTIO_MMIO_CONFIG.into(), &mut capacity);
    u64::from_le_bytes(capacity)
}

/// Whether the descriptor that the device has the main thread watch is readable.
pub(super) fn woken(driver: &Driver<Block>) -> bool {
    let epoll = Epoll::new().unwrap();
    for descriptor in driver.transport.descriptors() {
        epoll.ctl(ControlOperation::Add, descriptor, EpollEvent::new(EventSet::IN, 0)).unwrap();
    }
    epoll.wait(100, &mut [EpollEvent::default()]).unwrap() == 1
}

/// Asks for `count` sectors to be erased.
pub(super) fn erase(driver: &Driver<Block>, kind: u32, sector: u64, count: u32, flags: u32) -> (u8, u32) {
    driver.put(DATA, &sector.to_le_bytes());
    driver.put(DATA + 8, &count.to_le_bytes());
    driver.put(DATA + 12, &flags.to_le_bytes());
    // In two parts: how it is dealt out to buffers is the driver's affair.
    request(driver, kind, 0, &[(DATA, 5, false), (DATA + 5, 11, false)])
}
