// SPDX-License-Identifier: Apache-2.0
//! A memory region for RDMA (include/uapi/rdma/ib_user_verbs.h) on the kernel's own software adapter, rxe, over the
//! loopback device: from then on, adapters read and write it.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use secretvmm_canary::PAGE_SIZE;

use crate::probes::{Outcome, Subject};
use crate::tracee::Tracee;

const LINK: &str = "probe";
const DEVICE: &str = "/dev/infiniband/uverbs0";
/// enum ib_uverbs_write_cmds.
const GET_CONTEXT: u32 = 0;
const ALLOC_PD: u32 = 3;
const REG_MR: u32 = 9;
/// IB_ACCESS_LOCAL_WRITE and IB_ACCESS_REMOTE_READ.
const ACCESS: u64 = 1 | 4;

pub(super) fn run(subject: &Subject<'_>) -> Result<Outcome> {
    let mut tracee = Tracee::attach(subject.pid())?;
    let _link = Link::add()?;
    let verbs = tracee.open(DEVICE, libc::O_RDWR)?;
    let outcome = register(&mut tracee, verbs, subject.planted[0]);
    tracee.close(verbs)?;
    outcome
}

fn register(tracee: &mut Tracee, verbs: u64, address: u64) -> Result<Outcome> {
    let events = command(tracee, verbs, GET_CONTEXT, &[], 2)?.context("No context")?;
    tracee.close(events.into())?;
    let domain = command(tracee, verbs, ALLOC_PD, &[], 1)?.context("No protection domain")?;
    let page = PAGE_SIZE as u64;
    let region = [address, page, address, u64::from(domain) | ACCESS << 32];
    Ok(Outcome::took(command(tracee, verbs, REG_MR, &region, 3)?))
}

/// Lets the process write a command with an answer of some 32-bit words; gives the first of them.
fn command(tracee: &mut Tracee, verbs: u64, number: u32, arguments: &[u64], answer: u64) -> Result<Result<u32, Errno>> {
    let response = tracee.put_words(&[0; 2])?;
    let words = 4 + 2 * arguments.len() as u64;
    // struct ib_uverbs_cmd_hdr: command; words of it and of the answer.
    let header = u64::from(number) | words << 32 | answer << 48;
    let bytes = tracee.put_words(&[&[header, response], arguments].concat())?;
    match tracee.call(libc::SYS_write, &[verbs, bytes, 4 * words])? {
        Ok(_) => Ok(Ok(u32::from_le_bytes(tracee.get(response)?))),
        Err(errno) => Ok(Err(errno)),
    }
}

/// The adapter, which is there as long as this is.
struct Link;

impl Link {
    fn add() -> Result<Self> {
        rdma(&["link", "add", LINK, "type", "rxe", "netdev", "lo"])?;
        Ok(Link)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Err(error) = rdma(&["link", "delete", LINK]) {
            eprintln!("rdma: {error:#}");
        }
    }
}

fn rdma(arguments: &[&str]) -> Result<()> {
    let output = Command::new("rdma").args(arguments).output().context("Cannot run rdma (iproute2)")?;
    ensure!(output.status.success(), "rdma {arguments:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}
