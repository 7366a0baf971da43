// SPDX-License-Identifier: Apache-2.0
//! The file behind a drive: opened and changed.

use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use secretvmm_api::Drive;
use virtio_bindings::virtio_blk::*;
use virtio_bindings::virtio_mmio::*;

use super::disk::*;
use crate::devices::virtio::block::{Block, Error};
use crate::devices::virtio::testing::Driver;

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
    assert!(refusal(&Drive { socket: Some("/tmp/vu.sock".into()), ..nothing }).contains("which no other process can"));
}

#[test]
fn open_advice_fits_the_reason() {
    use std::io::ErrorKind::{NotFound, Other, PermissionDenied, ReadOnlyFilesystem};
    let advice =
        |kind: std::io::ErrorKind, read_only| crate::devices::virtio::block::disk::advice(&kind.into(), read_only);
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
