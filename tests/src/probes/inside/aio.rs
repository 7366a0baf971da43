// SPDX-License-Identifier: Apache-2.0
//! `io_submit(2)`: the kernel's own asynchronous writes (include/uapi/linux/aio_abi.h), with `O_DIRECT`.

use anyhow::Result;
use nix::errno::Errno;
use secretvmm_canary::PAGE_SIZE;

use super::ram_disk;
use crate::probes::{Outcome, Subject};
use crate::tracee::Tracee;

const IOCB_CMD_PWRITE: u64 = 1;

pub(super) fn run(subject: &Subject<'_>) -> Result<Outcome> {
    ram_disk::blank()?;
    let mut tracee = Tracee::attach(subject.pid())?;
    let disk = tracee.open(ram_disk::PATH, libc::O_RDWR | libc::O_DIRECT)?;
    let answer = write(&mut tracee, disk, subject.planted[0])?;
    tracee.close(disk)?;
    match answer {
        Ok(()) => Ok(subject.judge(&ram_disk::first_page()?)),
        Err(errno) => Ok(Outcome::refused(errno)),
    }
}

/// One write of one page, waited for.
fn write(tracee: &mut Tracee, disk: u64, address: u64) -> Result<Result<(), Errno>> {
    let slot = tracee.put_words(&[0])?;
    tracee.must(libc::SYS_io_setup, &[1, slot])?;
    let context = u64::from_le_bytes(tracee.get(slot)?);
    // data; key and flags; opcode, priority and file; buffer; length; offset; reserved; flags and eventfd.
    let words = [0, 0, IOCB_CMD_PWRITE | disk << 32, address, PAGE_SIZE as u64, 0, 0, 0];
    let block = tracee.put_words(&words)?;
    let list = tracee.put_words(&[block])?;
    let submitted = tracee.call(libc::SYS_io_submit, &[context, 1, list])?;
    let answer = match submitted {
        Ok(_) => {
            let event = tracee.put_words(&[0; 4])?;
            tracee.must(libc::SYS_io_getevents, &[context, 1, 1, event, 0])?;
            let event: [u8; 32] = tracee.get(event)?;
            let result = i64::from_le_bytes(event[16..24].try_into()?);
            if result < 0 { Err(Errno::from_raw(i32::try_from(-result)?)) } else { Ok(()) }
        }
        Err(errno) => Err(errno),
    };
    tracee.must(libc::SYS_io_destroy, &[context])?;
    Ok(answer)
}
