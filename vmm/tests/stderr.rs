// SPDX-License-Identifier: Apache-2.0
//! Standard error that nobody reads, that is broken or full: the program goes on, answers and ends when it is told to.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unsafe_code)] // The flags of a pipe.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use secretvmm_api::client::Client;
use serde_json::{Value, json};

/// More warnings than a place in the source may have at once.
const REQUESTS: usize = 100;

/// A pipe that is full and still waits for its reader, as a shell's would.
fn full_pipe() -> (OwnedFd, OwnedFd) {
    let (reader, writer) = std::io::pipe().unwrap();
    let (reader, mut writer) = (OwnedFd::from(reader), File::from(OwnedFd::from(writer)));
    // SAFETY: flags of a descriptor that is ours.
    let set = |flags: i32| assert_eq!(unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETFL, flags) }, 0);
    set(libc::O_NONBLOCK);
    let mut writing = &writer;
    while writing.write(&[b'x'; 4096]).is_ok() {}
    while writing.write(b"x").is_ok() {}
    set(0);
    writer.flush().unwrap();
    (reader, writer.into())
}

fn start(folder: &Path, stderr: impl Into<Stdio>) -> (Child, Client) {
    let socket = folder.join("api.sock");
    let mut command = Command::new(env!("CARGO_BIN_EXE_secretvmm"));
    let child = command.arg("--api-sock").arg(&socket).stdin(Stdio::null()).stderr(stderr).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    // A socket has its name before it listens.
    while UnixStream::connect(&socket).is_err() {
        assert!(Instant::now() < deadline, "There is no API");
        std::thread::sleep(Duration::from_millis(5));
    }
    (child, Client::new(&socket).unwrap())
}

/// Has the program warn again and again, and asserts that it lives and obeys.
fn assert_goes_on(name: &str, stderr: impl Into<Stdio>) {
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk");
    File::create(&disk).unwrap().set_len(1 << 20).unwrap();
    let (mut child, api) = start(folder.path(), stderr);
    for _ in 0..REQUESTS {
        let drive = json!({ "drive_id": "d", "path_on_host": disk, "is_root_device": false, "io_engine": "Async" });
        api.put("/drives/d", &drive).expect(name);
    }
    let info: Value = api.get("/").expect(name);
    assert_eq!(info["state"], "Not started", "{name}");
    // SAFETY: a signal to a child that has not been waited for.
    unsafe { libc::kill(child.id().cast_signed(), libc::SIGTERM) };
    let deadline = Instant::now() + Duration::from_secs(20);
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None if Instant::now() > deadline => {
                child.kill().unwrap();
                panic!("{name}: SIGTERM does not end it");
            }
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    assert_eq!((status.code(), status.signal()), (Some(128 + libc::SIGTERM), None), "{name}");
}

#[test]
fn stderr_that_nobody_reads_holds_nothing_up() {
    let (_reader, writer) = full_pipe();
    assert_goes_on("full pipe", writer);
}

#[test]
fn stderr_whose_reader_is_gone_ends_nothing() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    assert_goes_on("broken pipe", OwnedFd::from(writer));
}

#[test]
fn stderr_on_a_full_disk_ends_nothing() {
    assert_goes_on("full disk", File::options().write(true).open("/dev/full").unwrap());
}

#[test]
fn stderr_in_order_says_how_many_messages_were_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("stderr");
    assert_goes_on("file", File::create(&log).unwrap());
    let lines = std::fs::read_to_string(&log).unwrap().lines().count();
    assert!((1..REQUESTS).contains(&lines), "{lines} lines of {REQUESTS} warnings");
}
