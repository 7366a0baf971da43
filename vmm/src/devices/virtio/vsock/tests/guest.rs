// SPDX-License-Identifier: Apache-2.0
//! The guest's side of a vsock device, packet by packet.

use crate::metrics::Counter;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use virtio_bindings::virtio_mmio::VIRTIO_MMIO_QUEUE_NOTIFY;

use crate::devices::virtio::testing::{BUFFERS, Driver, WRITE};
use crate::devices::virtio::vsock::Vsock;
use crate::devices::virtio::vsock::metrics::Metrics;
use crate::devices::virtio::vsock::packet::{HEADER_SIZE, Header, op};
use crate::devices::virtio::{ConfigChange, HostSide};

pub(super) const CID: u64 = 42;
/// Port of a host's listener, and of the guest's.
pub(super) const HOST: u32 = 53;
pub(super) const GUEST: u32 = 1024;
/// The guest's buffer, unless a test says otherwise.
pub(super) const BUF_ALLOC: u32 = 256 << 10;
/// What Linux gives: a page, less its own bookkeeping.
const RX_SIZE: u32 = 3776;
const RX_COUNT: u16 = 16;
const RX_STRIDE: u64 = 0x2_0000;
pub(super) const TX_BUFFER: u64 = BUFFERS + 0x80_0000;

/// A packet that the guest got.
pub(super) type Got = (Header, Vec<u8>);

pub(super) struct Guest {
    pub(super) driver: Driver<Vsock>,
    pub(super) path: PathBuf,
    used: u16,
    waiting: Vec<u16>,
    _dir: TempDir,
}

impl Guest {
    /// A guest with all its rx buffers offered.
    pub(super) fn new() -> Self {
        let mut guest = Self::without_buffers();
        guest.offer();
        guest
    }

    pub(super) fn without_buffers() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("v.sock");
        let config = secretvmm_api::Vsock { vsock_id: None, guest_cid: CID as u32, uds_path: path.clone() };
        let driver = Driver::active(Vsock::open(&config).unwrap(), 0);
        Self { driver, path, used: 0, waiting: (0..RX_COUNT).collect(), _dir: dir }
    }

    /// A listener at the host's `port`.
    pub(super) fn listen(&self, port: u32) -> UnixListener {
        UnixListener::bind(format!("{}_{port}", self.path.display())).unwrap()
    }

    /// A host process that connects to the guest.
    pub(super) fn client(&self) -> UnixStream {
        let client = UnixStream::connect(&self.path).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        client
    }

    /// A connection that the guest has made to [`HOST`], and its other end.
    pub(super) fn connected(&mut self, buf_alloc: u32) -> UnixStream {
        let listener = self.listen(HOST);
        self.tx(Header { buf_alloc, ..header(op::REQUEST) }, &[]);
        let (stream, _) = listener.accept().unwrap();
        let got = self.rx();
        assert_eq!(got.iter().map(|(header, _)| header.op).collect::<Vec<_>>(), [op::RESPONSE]);
        stream
    }

    /// Sends a packet; the main thread makes the socket that a REQUEST is for.
    pub(super) fn tx(&self, header: Header, data: &[u8]) {
        self.raw(Header { len: data.len() as u32, ..header }, data);
        if header.op == op::REQUEST {
            self.driver.transport.host_event();
        }
    }

    /// Sends a header as it is.
    pub(super) fn raw(&self, header: Header, data: &[u8]) {
        self.driver.put(TX_BUFFER, &header.to_bytes());
        self.driver.put(TX_BUFFER + HEADER_SIZE as u64, data);
        self.driver.send(1, 0, &[(TX_BUFFER, (HEADER_SIZE + data.len()) as u32, false)]);
    }

    /// Everything that the device has for the guest at this moment.
    pub(super) fn rx(&mut self) -> Vec<Got> {
        let mut packets = Vec::new();
        loop {
            self.driver.transport.host_event();
            let got = self.take();
            if got.is_empty() {
                return packets;
            }
            packets.extend(got);
            self.offer();
        }
    }

    /// The packets in the used ring; their buffers are not offered again.
    pub(super) fn take(&mut self) -> Vec<Got> {
        let used = self.driver.used_since(0, self.used);
        self.used += used.len() as u16;
        used.into_iter()
            .map(|(head, len)| {
                let bytes = self.driver.bytes(address(head as u16), len as usize);
                self.waiting.push(head as u16);
                let (header, data) = bytes.split_first_chunk().unwrap();
                (Header::from_bytes(header), data.to_vec())
            })
            .collect()
    }

    /// Offers the rx buffers that were used.
    pub(super) fn offer(&mut self) {
        for head in std::mem::take(&mut self.waiting) {
            self.driver.descriptor(0, head, address(head), RX_SIZE, WRITE, 0);
            self.driver.offer(0, head);
        }
        self.driver.write(VIRTIO_MMIO_QUEUE_NOTIFY, 0);
    }

    /// The operations and flags of what the guest gets.
    pub(super) fn ops(&mut self) -> Vec<(u16, u32)> {
        self.rx().into_iter().map(|(header, _)| (header.op, header.flags)).collect()
    }

    /// What the guest gets until `op` comes, for which it waits as a main loop does.
    pub(super) fn wait_for(&mut self, op: u16) -> Duration {
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(10) {
            if self.ops().iter().any(|(got, _)| *got == op) {
                return start.elapsed();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("Operation {op} does not come");
    }

    pub(super) fn count(&self, counter: impl Fn(&Metrics) -> &Counter) -> u64 {
        let metrics = self.driver.transport.change(|device| (device.metrics(), ConfigChange::No));
        counter(&metrics).total()
    }
}

fn address(head: u16) -> u64 {
    BUFFERS + u64::from(head) * RX_STRIDE
}

/// A header of the guest's to [`HOST`].
pub(super) fn header(op: u16) -> Header {
    Header {
        src_cid: CID,
        dst_cid: 2,
        src_port: GUEST,
        dst_port: HOST,
        kind: 1,
        op,
        buf_alloc: BUF_ALLOC,
        ..Header::default()
    }
}
