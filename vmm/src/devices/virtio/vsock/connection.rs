// SPDX-License-Identifier: Apache-2.0
//! One connection: a unix socket on the one side, packets on the other.
//!
//! ```text
//! host-initiated:  Asking ── RESPONSE: "OK port\n" ──> Open
//! guest-initiated:                       RESPONSE ──> Open
//!
//! Each direction of an open connection ends by itself. When both have ended the guest closes with
//! RST; if it does not in time, or has said that it is done, the device does.
//! ```

use std::io::{self, ErrorKind, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use vm_memory::{ReadVolatile, VolatileMemoryError, WriteVolatile};
use vmm_sys_util::epoll::EventSet;

use super::backlog::Backlog;
use super::credit::Credit;
use super::metrics::Metrics;
use super::packet::{self, Header, NO_RECEIVE, NO_SEND, PAYLOAD_MAX, Packet, Space, op};
use super::ports::Ports;

/// How long a guest may take to answer, and a host to take what is left for it.
pub(super) const TIMEOUT: Duration = Duration::from_secs(2);

/// Why a connection is over.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The guest has said so, and knows.
    ByGuest,
    /// Both sides are done; the guest waits to hear it.
    Done,
    /// The host's side has vanished.
    HostGone,
    /// The guest has broken a rule.
    Broken,
}

/// What a connection has for the guest.
pub(super) enum Outgoing {
    None,
    Packet(Header),
    End(End),
}

#[derive(Debug, PartialEq, Eq)]
enum Stage {
    /// The guest has not answered a REQUEST; whether it was sent.
    Asking {
        sent: bool,
    },
    Open,
}

/// A connection.
pub(super) struct Connection {
    ports: Ports,
    socket: UnixStream,
    stage: Stage,
    metrics: Arc<Metrics>,
    backlog: Backlog,
    credit: Credit,
    /// Operations that the guest shall hear of.
    owes_response: bool,
    owes_update: bool,
    /// The guest was asked for room and has not given any.
    asked: bool,
    /// What the guest has been told of SHUTDOWN's flags.
    told: u32,
    /// What the guest has told.
    heard: u32,
    /// The socket may have data or room; false once it has said that it has none.
    readable: bool,
    writable: bool,
    /// Both directions of the socket are over, except for what can still be read.
    hung_up: bool,
    /// The host sends no more, or receives no more.
    host_flags: u32,
    /// When the connection ends if nothing happens.
    pub(super) deadline: Option<Instant>,
    /// The connection is in the muxer's queue.
    pub(super) queued: bool,
}

impl Connection {
    /// A client of the host's, which wants to talk to the guest.
    pub(super) fn from_host(ports: Ports, socket: UnixStream, buffer: u32, metrics: Arc<Metrics>) -> Self {
        let deadline = Some(Instant::now() + TIMEOUT);
        Self { stage: Stage::Asking { sent: false }, deadline, ..Self::open(ports, socket, buffer, metrics) }
    }

    /// A request of the guest's, which somebody on the host has accepted.
    pub(super) fn from_guest(
        ports: Ports,
        socket: UnixStream,
        buffer: u32,
        metrics: Arc<Metrics>,
        request: &Header,
    ) -> Self {
        let mut connection = Self { owes_response: true, ..Self::open(ports, socket, buffer, metrics) };
        // Nothing was sent yet: whatever the guest says about it starts the count.
        connection.credit.hear(&Header { fwd_cnt: 0, ..*request }).ok();
        connection
    }

    fn open(ports: Ports, socket: UnixStream, buffer: u32, metrics: Arc<Metrics>) -> Self {
        Self {
            ports,
            socket,
            stage: Stage::Open,
            metrics,
            backlog: Backlog::new(buffer as usize),
            credit: Credit::new(buffer),
            owes_response: false,
            owes_update: false,
            asked: false,
            told: 0,
            heard: 0,
            readable: true,
            writable: true,
            hung_up: false,
            host_flags: 0,
            deadline: None,
            queued: false,
        }
    }

    /// Whether the guest has ever heard of this connection.
    pub(super) fn is_known(&self) -> bool {
        self.stage != Stage::Asking { sent: false }
    }

    /// Something happened at the socket.
    pub(super) fn host_event(&mut self, events: EventSet) {
        let gone = events.intersects(EventSet::HANG_UP | EventSet::ERROR);
        self.readable |= gone || events.intersects(EventSet::IN | EventSet::READ_HANG_UP);
        self.writable |= gone || events.contains(EventSet::OUT);
        self.hung_up |= gone;
    }

    /// A packet came from the guest.
    pub(super) fn receive(&mut self, packet: &Packet) -> Result<(), End> {
        let header = &packet.header;
        if header.op == op::RST {
            return Err(End::ByGuest);
        }
        self.credit.hear(header).map_err(|_| End::Broken)?;
        self.asked &= self.credit.peer_room() == 0;
        match (&self.stage, header.op) {
            (Stage::Asking { sent: true }, op::RESPONSE) => self.accepted(),
            (Stage::Open, op::RW) => self.take(packet),
            (Stage::Open, op::SHUTDOWN) => {
                self.heard |= header.flags & (NO_RECEIVE | NO_SEND);
                Ok(())
            }
            (Stage::Open, op::CREDIT_UPDATE) => Ok(()),
            (Stage::Open, op::CREDIT_REQUEST) => {
                self.owes_update = true;
                Ok(())
            }
            _ => Err(End::Broken),
        }
    }

    /// Moves what can be moved to the socket and sees how far the ends of the directions are.
    /// To be called after anything has happened.
    pub(super) fn settle(&mut self) -> Result<(), End> {
        let moved = self.flush();
        if self.stage != Stage::Open {
            return Ok(());
        }
        // A direction that the guest ends does so at the socket once it is empty.
        if self.heard & NO_RECEIVE != 0 && self.host_flags & NO_SEND == 0 {
            self.host_flags |= NO_SEND;
            let _ = self.socket.shutdown(Shutdown::Read);
        }
        if self.heard & NO_SEND != 0 && self.backlog.is_empty() && self.host_flags & NO_RECEIVE == 0 {
            self.host_flags |= NO_RECEIVE;
            let _ = self.socket.shutdown(Shutdown::Write);
        }
        if self.hung_up && self.host_flags & NO_SEND != 0 {
            self.refuse_more();
        }
        let ended = self.host_flags == NO_RECEIVE | NO_SEND;
        if ended && self.heard == NO_RECEIVE | NO_SEND {
            return Err(End::Done);
        }
        let ending = ended || self.heard == NO_RECEIVE | NO_SEND;
        if ending && (self.deadline.is_none() || moved) {
            self.deadline = Some(Instant::now() + TIMEOUT);
        }
        Ok(())
    }

    /// Whether [`Self::next_packet`] would have one, as far as one can tell without asking the socket.
    pub(super) fn has_pending(&self) -> bool {
        match self.stage {
            Stage::Asking { sent } => !sent,
            Stage::Open => {
                self.owes_response || self.owes_update || self.owed_flags() != 0 || (self.may_read() && !self.asked)
            }
        }
    }

    /// The next packet for the guest; its data goes into `space`, its header does not.
    pub(super) fn next_packet(&mut self, space: &Space) -> Outgoing {
        if let Stage::Asking { sent } = &mut self.stage {
            return if std::mem::replace(sent, true) { Outgoing::None } else { self.packet(op::REQUEST) };
        }
        if std::mem::take(&mut self.owes_response) {
            return self.packet(op::RESPONSE);
        }
        if self.may_read() {
            match self.credit.peer_room() {
                0 if !self.asked => {
                    self.asked = true;
                    return self.packet(op::CREDIT_REQUEST);
                }
                0 => {}
                room => match self.read(space, room) {
                    Ok(0) => {}
                    Ok(len) => return self.data(len),
                    Err(err) => {
                        log::debug!("{}: {err}", self.ports);
                        self.metrics.rx_read_fails.inc();
                        return Outgoing::End(End::HostGone);
                    }
                },
            }
        }
        if self.owed_flags() != 0 {
            self.told |= self.owed_flags();
            return self.packet(op::SHUTDOWN);
        }
        if self.owes_update { self.packet(op::CREDIT_UPDATE) } else { Outgoing::None }
    }

    /// The guest listens: so the client hears.
    fn accepted(&mut self) -> Result<(), End> {
        self.stage = Stage::Open;
        self.deadline = None;
        let answer = format!("OK {}\n", self.ports.host);
        // A client that has room for nothing has gone.
        match (&self.socket).write(answer.as_bytes()) {
            Ok(len) if len == answer.len() => Ok(()),
            _ => Err(End::HostGone),
        }
    }

    /// Takes data from the guest: what the socket takes at once goes there, the rest into the backlog.
    fn take(&mut self, packet: &Packet) -> Result<(), End> {
        if !packet.is_whole() || self.heard & NO_SEND != 0 {
            return Err(End::Broken);
        }
        self.credit.receive(packet.header.len).map_err(|_| End::Broken)?;
        self.metrics.tx_bytes_count.add(packet.len() as u64);
        if self.host_flags & NO_RECEIVE != 0 {
            // It was on its way when the guest was told.
            self.credit.forward(packet.len());
            return Ok(());
        }
        let written = if self.backlog.is_empty() { self.write(packet) } else { Ok(0) };
        match written {
            Ok(written) => {
                self.credit.forward(written);
                packet.payload(written).for_each(|slice| self.backlog.push(&slice));
            }
            Err(err) => {
                log::debug!("{}: {err}", self.ports);
                self.metrics.tx_write_fails.inc();
                self.credit.forward(packet.len());
                self.refuse_more();
            }
        }
        self.owes_update |= self.credit.update_is_due();
        Ok(())
    }

    /// Writes from guest memory until the socket takes no more.
    fn write(&mut self, packet: &Packet) -> io::Result<usize> {
        let mut written = 0;
        for slice in packet.payload(0) {
            let mut at = 0;
            while at < slice.len() && self.writable {
                let rest = slice.offset(at).map_err(io::Error::other)?;
                match retry(|| self.socket.write_volatile(&rest))? {
                    Some(count) => at += count,
                    None => self.writable = false,
                }
            }
            written += at;
        }
        Ok(written)
    }

    /// Gives the backlog to the socket; true if some of it went.
    fn flush(&mut self) -> bool {
        if self.backlog.is_empty() || !self.writable {
            return false;
        }
        match self.backlog.flush(&self.socket) {
            Ok(count) => {
                self.writable = self.backlog.is_empty();
                self.credit.forward(count);
                self.owes_update |= self.credit.update_is_due();
                count > 0
            }
            Err(err) => {
                log::debug!("{}: {err}", self.ports);
                self.metrics.tx_flush_fails.inc();
                self.refuse_more();
                false
            }
        }
    }

    /// The host takes no more data.
    fn refuse_more(&mut self) {
        self.host_flags |= NO_RECEIVE;
        let dropped = self.backlog.clear();
        self.credit.forward(dropped);
    }

    fn may_read(&self) -> bool {
        self.readable && self.host_flags & NO_SEND == 0
    }

    /// Reads straight into guest memory; 0 if there is nothing now or no more at all.
    fn read(&mut self, space: &Space, room: u32) -> io::Result<usize> {
        let max = PAYLOAD_MAX.min(room as usize);
        let mut len = 0;
        for mut slice in space.payload(max) {
            match retry(|| self.socket.read_volatile(&mut slice)) {
                Ok(Some(0)) => {
                    self.host_flags |= NO_SEND;
                    if self.hung_up {
                        self.refuse_more();
                    }
                    break;
                }
                Ok(Some(count)) => {
                    len += count;
                    if count < slice.len() {
                        break;
                    }
                }
                Ok(None) => {
                    self.readable = false;
                    break;
                }
                // What was read before it counts; the error comes again.
                Err(_) if len > 0 => break,
                Err(err) => return Err(err),
            }
        }
        Ok(len)
    }

    /// Flags of SHUTDOWN that the guest has not heard of, and would like to.
    fn owed_flags(&self) -> u32 {
        let moot = if self.heard & NO_SEND != 0 { NO_RECEIVE } else { 0 }
            | if self.heard & NO_RECEIVE != 0 { NO_SEND } else { 0 };
        self.host_flags & !self.told & !moot
    }

    fn packet(&mut self, op: u16) -> Outgoing {
        let flags = if op == op::SHUTDOWN { self.told } else { 0 };
        Outgoing::Packet(self.header(op, 0, flags))
    }

    fn data(&mut self, len: usize) -> Outgoing {
        self.credit.send(len as u32);
        self.metrics.rx_bytes_count.add(len as u64);
        Outgoing::Packet(self.header(op::RW, len as u32, 0))
    }

    fn header(&mut self, op: u16, len: u32, flags: u32) -> Header {
        let Ports { host, guest } = self.ports;
        let kind = packet::STREAM;
        let mut header = Header { src_port: host, dst_port: guest, kind, op, len, flags, ..Header::default() };
        self.credit.tell(&mut header);
        self.owes_update = false;
        header
    }
}

/// None if the socket would block.
fn retry(mut call: impl FnMut() -> Result<usize, VolatileMemoryError>) -> io::Result<Option<usize>> {
    loop {
        return match call() {
            Ok(count) => Ok(Some(count)),
            Err(VolatileMemoryError::IOError(err)) if err.kind() == ErrorKind::Interrupted => continue,
            Err(VolatileMemoryError::IOError(err)) if err.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(VolatileMemoryError::IOError(err)) => Err(err),
            Err(err) => Err(io::Error::other(err)),
        };
    }
}
