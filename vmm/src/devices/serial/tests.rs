// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]

use std::io::{Read, Seek};
use std::os::fd::OwnedFd;
use std::time::Instant;

use vmm_sys_util::tempfile::TempFile;

use super::uart::*;
use super::*;

fn console() -> (SerialConsole, EventFd, File) {
    let interrupt = EventFd::new(libc::EFD_NONBLOCK).unwrap();
    let out = TempFile::new().unwrap().into_file();
    let console = SerialConsole::new(interrupt.try_clone().unwrap(), out.try_clone().unwrap());
    (console.unwrap(), interrupt, out)
}

#[test]
fn output_above_the_limit_is_dropped() {
    let (serial, _, mut out) = console();
    serial.limit(TokenBucket { size: 3, one_time_burst: None, refill_time: 3_600_000 }).unwrap();
    b"abcdef".iter().for_each(|byte| serial.write(DATA, *byte));
    let mut text = String::new();
    out.rewind().unwrap();
    out.read_to_string(&mut text).unwrap();
    assert_eq!(text, "abc");
}

#[test]
fn sent_bytes_reach_the_line_in_order() {
    let (console, _, mut out) = console();
    for byte in b"hello" {
        console.write(DATA, *byte);
    }
    let mut text = String::new();
    out.rewind().unwrap();
    out.read_to_string(&mut text).unwrap();
    assert_eq!(text, "hello");
}

#[test]
fn input_waits_for_the_driver_then_interrupts() {
    let (console, interrupt, _) = console();
    assert_eq!(console.receive(b"x"), 0);
    console.write(LCR, LCR_DLAB);
    console.write(IER, 1); // the divisor's high byte
    assert!(console.room().read().is_err());
    console.write(LCR, 3);
    console.write(IER, IER_PROBE);
    assert!(console.room().read().is_err());
    console.write(IER, IER_RECEIVE);
    assert!(console.room().read().is_ok());
    assert_eq!(console.receive(b"x"), 1);
    assert!(interrupt.read().is_ok());
    assert_eq!((console.read(5) & 1, console.read(DATA)), (1, b'x'));
    assert!(console.room().read().is_err(), "nobody asked");
}

#[test]
fn input_beyond_the_fifo_is_left_to_the_caller() {
    let (console, _, _) = console();
    console.write(IER, IER_RECEIVE);
    assert_eq!(console.receive(&[0; 100]), 64);
    assert_eq!(console.receive(b"x"), 0);
    for _ in 0..64 {
        console.read(DATA);
    }
    assert!(console.room().read().is_ok());
}

#[test]
fn any_register_access_leaves_the_device_working() {
    let (console, _, _) = console();
    for offset in 0..8 {
        for value in 0..=255 {
            console.write(offset, value);
            console.read(offset);
        }
    }
    console.write(4, 0);
    console.write(LCR, 3);
    console.write(IER, IER_RECEIVE);
    for _ in 0..64 {
        console.read(DATA);
    }
    assert_eq!(console.receive(b"x"), 1);
}

#[test]
fn output_that_nobody_takes_is_lost_and_the_guest_goes_on() {
    let (mut reader, writer) = io::pipe().unwrap();
    let out = File::from(OwnedFd::from(writer));
    let console = SerialConsole::new(EventFd::new(libc::EFD_NONBLOCK).unwrap(), out).unwrap();
    let start = Instant::now();
    // More than a pipe holds, to a reader who does not read. Without a word this would wait for ever.
    (0..200_000).for_each(|_| console.write(DATA, b'x'));
    assert!(start.elapsed().as_secs() < 60);
    assert!(crate::metrics::METRICS.uart.missed_write_count.total() > 100_000);

    // The reader is back.
    let mut read = vec![0; 1 << 20];
    let before = reader.read(&mut read).unwrap();
    assert!(before > 0 && read[..before].iter().all(|byte| *byte == b'x'));
    b"back".iter().for_each(|byte| console.write(DATA, *byte));
    drop(console);
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).unwrap();
    assert!(rest.ends_with(b"back"), "{} bytes", rest.len());
}

#[test]
fn output_that_fails_comes_back_when_it_does_not_any_more() {
    let folder = vmm_sys_util::tempdir::TempDir::new().unwrap();
    let path = folder.as_path().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let open = || File::options().read(true).write(true).open(&path).unwrap();
    let (held, out) = (open(), File::options().write(true).open(&path).unwrap());
    let console = SerialConsole::new(EventFd::new(libc::EFD_NONBLOCK).unwrap(), out).unwrap();
    drop(held);
    b"lost".iter().for_each(|byte| console.write(DATA, *byte));
    let mut reader = open();
    b"there".iter().for_each(|byte| console.write(DATA, *byte));
    let mut bytes = [0; 16];
    let count = reader.read(&mut bytes).unwrap();
    assert_eq!(&bytes[..count], b"there");
}

/// Reads as a driver does that believes IIR alone.
fn drain(console: &SerialConsole) -> usize {
    let mut bytes = 0;
    while console.read(IIR) & 0xf == IIR_RECEIVE {
        console.read(DATA);
        bytes += 1;
    }
    bytes
}

#[test]
fn receive_interrupt_is_pending_as_long_as_there_is_data() {
    let (console, _, _) = console();
    console.write(IIR, FCR_ENABLE);
    console.write(IER, IER_RECEIVE);
    assert_eq!(console.read(IIR), IIR_FIFOS | IIR_NONE);
    assert_eq!(console.receive(b"abc"), 3);
    assert_eq!(drain(&console), 3);
    assert_eq!((console.read(IIR), console.read(LSR) & 1), (IIR_FIFOS | IIR_NONE, 0));
    // Without the interrupt there is none, whatever the receiver has.
    assert_eq!(console.receive(b"d"), 1);
    console.write(IER, 0);
    assert_eq!(console.read(IIR), IIR_FIFOS | IIR_NONE);
    console.write(IER, IER_RECEIVE);
    assert_eq!(drain(&console), 1);
}

#[test]
fn transmit_interrupt_is_said_after_the_receivers_and_once() {
    let (console, interrupt, _) = console();
    console.write(IER, IER_RECEIVE | 2);
    assert!(interrupt.read().is_ok());
    assert_eq!(console.receive(b"a"), 1);
    assert_eq!(console.read(IIR), IIR_RECEIVE);
    console.read(DATA);
    assert_eq!(console.read(IIR), IIR_TRANSMIT);
    assert_eq!(console.read(IIR), IIR_NONE);
    console.write(DATA, b'x');
    assert!(interrupt.read().is_ok());
    assert_eq!(console.read(IIR), IIR_TRANSMIT);
}

#[test]
fn fifo_control_turns_fifos_on_and_empties_the_receiver() {
    let (console, _, _) = console();
    console.write(IER, IER_RECEIVE);
    assert_eq!(console.read(IIR) & IIR_FIFOS, 0);
    console.write(IIR, FCR_ENABLE);
    assert_eq!(console.read(IIR) & IIR_FIFOS, IIR_FIFOS);
    assert_eq!(console.receive(b"abc"), 3);
    console.write(IIR, FCR_ENABLE);
    assert_eq!(console.read(LSR) & 1, 1, "nothing was to be emptied");
    // Also while the divisor is reachable where the data are else.
    console.write(LCR, LCR_DLAB | 3);
    console.write(DATA, 7);
    console.write(IIR, FCR_ENABLE | FCR_CLEAR_RECEIVER);
    assert_eq!((console.read(LSR) & 1, console.read(DATA), console.read(LCR)), (0, 7, LCR_DLAB | 3));
    console.write(LCR, 3);
    assert_eq!(console.receive(b"d"), 1);
    console.write(IIR, 0);
    assert_eq!((console.read(LSR) & 1, console.read(IIR)), (0, IIR_NONE));
}
