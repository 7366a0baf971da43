// SPDX-License-Identifier: Apache-2.0
//! Loads a guest's virtio devices and says how long each took: `cargo xtask bench vmm` runs it in the guest.
//!
//! A line for each load: `load: NAME NANOSECONDS BYTES`. Peers on the host's side: TCP and vsock port 6000 take bytes
//! to their end, port 6001 gives them.

use std::alloc::{Layout, alloc_zeroed};
use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use nix::libc::O_DIRECT;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, VsockAddr, connect, socket};

const DISK: &str = "/dev/vda";
/// What each stream moves.
const STREAM: usize = 32 << 20;
/// What is read or written in order.
const IN_ORDER: u64 = 64 << 20;
/// How many 4 KiB pieces are read or written in no order.
const PIECES: u64 = 2048;

const CHUNK: usize = 128 << 10;
const PIECE: usize = 4 << 10;
/// The host, as vsock has it (`VMADDR_CID_HOST`).
const HOST_CID: u32 = 2;
const TAKES: u32 = 6000;
const GIVES: u32 = 6001;

fn main() -> Result<()> {
    let host = std::env::args().nth(1).context("usage: load HOST-ADDRESS")?;
    let disk = File::options().read(true).write(true).custom_flags(O_DIRECT).open(DISK)?;
    timed("block_seq_read", IN_ORDER, || in_order(|buffer, at| disk.read_exact_at(buffer, at)))?;
    timed("block_seq_write", IN_ORDER, || in_order(|buffer, at| disk.write_all_at(buffer, at)))?;
    timed("block_rand_read", PIECES * PIECE as u64, || in_no_order(|buffer, at| disk.read_exact_at(buffer, at)))?;
    timed("block_rand_write", PIECES * PIECE as u64, || in_no_order(|buffer, at| disk.write_all_at(buffer, at)))?;
    let tcp = |port| TcpStream::connect(format!("{host}:{port}")).context("No TCP peer");
    stream("net_tx", "net_rx", tcp)?;
    stream("vsock_tx", "vsock_rx", vsock)?;
    println!("load: done 0 0");
    Ok(())
}

/// Runs one load and prints its line.
fn timed(name: &str, bytes: u64, load: impl FnOnce() -> Result<()>) -> Result<()> {
    let begun = Instant::now();
    load().with_context(|| name.to_owned())?;
    println!("load: {name} {} {bytes}", begun.elapsed().as_nanos());
    Ok(())
}

fn in_order(mut access: impl FnMut(&mut [u8], u64) -> std::io::Result<()>) -> Result<()> {
    let buffer = aligned(CHUNK)?;
    (0..IN_ORDER).step_by(CHUNK).try_for_each(|at| access(buffer, at)).context(DISK)
}

fn in_no_order(mut access: impl FnMut(&mut [u8], u64) -> std::io::Result<()>) -> Result<()> {
    let buffer = aligned(PIECE)?;
    let pieces = IN_ORDER / PIECE as u64;
    // Each piece of the disk once in a cycle (Hull and Dobell), the same for everybody.
    let mut piece = 0;
    for _ in 0..PIECES {
        piece = (piece * 1_664_525 + 1_013_904_223) % pieces;
        access(buffer, piece * PIECE as u64).context(DISK)?;
    }
    Ok(())
}

/// Memory that `O_DIRECT` takes, for as long as the program runs.
#[allow(unsafe_code)] // Vec has no alignment of one's choice.
fn aligned(size: usize) -> Result<&'static mut [u8]> {
    let layout = Layout::from_size_align(size, 4096).context("No such layout")?;
    // SAFETY: the size is not zero; the memory is zeroed, nobody else has it, and it is never freed.
    unsafe {
        let memory = alloc_zeroed(layout);
        if memory.is_null() {
            bail!("No memory");
        }
        Ok(std::slice::from_raw_parts_mut(memory, size))
    }
}

/// Bytes out, then bytes in. A peer's answer of one byte is the end of what was sent.
fn stream<S: Read + Write>(out: &str, back: &str, connect: impl Fn(u32) -> Result<S>) -> Result<()> {
    let mut chunk = vec![0x5a; CHUNK];
    let mut to = connect(TAKES)?;
    timed(out, STREAM as u64, || {
        (0..STREAM / CHUNK).try_for_each(|_| to.write_all(&chunk)).context("Cannot send")?;
        to.read_exact(&mut [0]).context("No answer")
    })?;
    let mut from = connect(GIVES)?;
    timed(back, STREAM as u64, || {
        from.write_all(b"!").context("Cannot ask")?;
        (0..STREAM / CHUNK).try_for_each(|_| from.read_exact(&mut chunk)).context("Cannot receive")
    })
}

fn vsock(port: u32) -> Result<File> {
    let socket = socket(AddressFamily::Vsock, SockType::Stream, SockFlag::empty(), None)?;
    connect(socket.as_raw_fd(), &VsockAddr::new(HOST_CID, port)).context("No vsock peer")?;
    Ok(File::from(socket))
}
