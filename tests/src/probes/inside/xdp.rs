// SPDX-License-Identifier: Apache-2.0
//! AF_XDP: packet memory that is registered for good (Documentation/networking/af_xdp.rst), and one frame sent from it
//! over the loopback device, where a packet socket sees it.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use secretvmm_canary::PAGE_SIZE;

use crate::area::Area;
use crate::probes::{Outcome, Subject};
use crate::tracee::Tracee;

const SOL_XDP: u64 = 283;
const XDP_MMAP_OFFSETS: u64 = 1;
const XDP_TX_RING: u64 = 3;
const XDP_UMEM_REG: u64 = 4;
const XDP_UMEM_FILL_RING: u64 = 5;
const XDP_UMEM_COMPLETION_RING: u64 = 6;
const XDP_PGOFF_TX_RING: u64 = 0x8000_0000;
const XDP_COPY: u64 = 2;
const LOOPBACK: u64 = 1;
const ENTRIES: u32 = 64;

pub(super) fn run(subject: &Subject<'_>) -> Result<Outcome> {
    let mut tracee = Tracee::attach(subject.pid())?;
    let xdp = tracee.must(libc::SYS_socket, &[libc::AF_XDP as u64, libc::SOCK_RAW as u64, 0])?;
    let outcome = match register(&mut tracee, xdp, subject.planted[0])? {
        Ok(()) => {
            let listener = listen()?;
            send(&mut tracee, xdp)?;
            Ok(subject.judge(&frame(listener)?))
        }
        Err(errno) => Ok(Outcome::refused(errno)),
    };
    tracee.close(xdp)?;
    outcome
}

/// One page as packet memory of one frame.
fn register(tracee: &mut Tracee, xdp: u64, address: u64) -> Result<Result<(), Errno>> {
    let page = PAGE_SIZE as u64;
    // struct xdp_umem_reg: address, length, chunk size and headroom, flags.
    let area = tracee.put_words(&[address, page, page, 0])?;
    Ok(tracee.call(libc::SYS_setsockopt, &[xdp, SOL_XDP, XDP_UMEM_REG, area, 32])?.map(drop))
}

/// Sends the whole chunk as one frame.
fn send(tracee: &mut Tracee, xdp: u64) -> Result<()> {
    let entries = tracee.put(&ENTRIES.to_ne_bytes())?;
    for ring in [XDP_UMEM_FILL_RING, XDP_UMEM_COMPLETION_RING, XDP_TX_RING] {
        tracee.must(libc::SYS_setsockopt, &[xdp, SOL_XDP, ring, entries, 4])?;
    }
    // struct xdp_mmap_offsets: producer, consumer, descriptors and flags of four rings, the second for sending.
    let (offsets, size) = (tracee.put_words(&[0; 16])?, tracee.put_words(&[128])?);
    tracee.must(libc::SYS_getsockopt, &[xdp, SOL_XDP, XDP_MMAP_OFFSETS, offsets, size])?;
    let offsets: [u8; 128] = tracee.get(offsets)?;
    let offset = |word: usize| -> Result<usize> {
        Ok(usize::try_from(u64::from_le_bytes(offsets[8 * word..8 * word + 8].try_into()?))?)
    };
    // struct sockaddr_xdp: family and flags, interface; queue, no shared memory.
    let name = tracee.put_words(&[libc::AF_XDP as u64 | XDP_COPY << 16 | LOOPBACK << 32, 0])?;
    tracee.must(libc::SYS_bind, &[xdp, name, 16])?;
    let (producer, descriptors) = (offset(4)?, offset(6)?);
    let ring = Area::of_file_at(&tracee.take(xdp)?, XDP_PGOFF_TX_RING, descriptors + 16 * ENTRIES as usize)?;
    // struct xdp_desc: address in the packet memory; length, options.
    ring.put(descriptors, &[0u64.to_le_bytes(), (PAGE_SIZE as u64).to_le_bytes()].concat());
    ring.put(producer, &1u32.to_le_bytes());
    tracee.must(libc::SYS_sendto, &[xdp, 0, 0, libc::MSG_DONTWAIT as u64, 0, 0])?;
    Ok(())
}

/// A socket that sees every frame; the loopback device is the only one where any of this size comes.
fn listen() -> Result<OwnedFd> {
    let all = SockProtocol::EthAll;
    socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_NONBLOCK, all).context("No packet socket")
}

fn frame(listener: OwnedFd) -> Result<Vec<u8>> {
    let mut listener = File::from(listener);
    let mut frame = vec![0; 2 * PAGE_SIZE];
    for _ in 0..1000 {
        match listener.read(&mut frame) {
            Ok(PAGE_SIZE) => return Ok(frame[..PAGE_SIZE].to_vec()),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            Err(error) => return Err(error.into()),
        }
    }
    anyhow::bail!("No frame came over the loopback device")
}
