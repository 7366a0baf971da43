// SPDX-License-Identifier: Apache-2.0
//! All connections of a device, what they wait for, and what waits for the guest.

use std::collections::{HashMap, VecDeque};
use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};
use vmm_sys_util::timerfd::TimerFd;

use super::client::{Client, Line};
use super::config::Error;
use super::connection::{Connection, End, Outgoing, TIMEOUT};
use super::credit::{BUFFER_SIZE, BUFFER_SIZE_MANY};
use super::listener::{self, Listener};
use super::metrics::Metrics;
use super::packet::{HEADER_SIZE, HOST_CID, Header, PORT_ANY, Packet, STREAM, Space, op};
use super::ports::Ports;
use crate::devices::virtio::Turn;
use crate::limits;

/// The most connections, clients that have not said what they want among them. With few descriptors there are
/// fewer: half of them are left for the rest of the VMM.
pub(super) const CONNECTIONS_MAX: usize = 1023;
/// The most clients that have not said what they want.
const CLIENTS_MAX: usize = 256;
/// So many connections have a large buffer, and those beyond a small one: 12 MiB in all.
const LARGE_BUFFERS: usize = 128;
/// How long a client has for saying it.
const CLIENT_TIME: Duration = Duration::from_secs(10);
/// With so many RSTs waiting for rx buffers, or REQUESTs for the main thread, the device takes no more packets.
const RESETS_MAX: usize = 256;
/// Ports for host processes, from here to twice this, as Firecracker counts them.
const HOST_PORTS: u32 = 1 << 30;
/// With [`PORT_ANY`] as the host's port, what is no connection in epoll.
const LISTENER: Ports = Ports { host: PORT_ANY, guest: 0 };
const TIMER: Ports = Ports { host: PORT_ANY, guest: 1 };
const REQUESTS: Ports = Ports { host: PORT_ANY, guest: 2 };
const FIRST_CLIENT: u32 = 3;
/// Without a descriptor for a client, the device tries again after this.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
/// A timer seen so much too late means that the VM was paused, and the guest could not answer.
const LATE: Duration = Duration::from_millis(500);
/// Events that one call of epoll_wait() gives.
const EVENTS: usize = 32;

/// The host's side of a vsock device.
pub(super) struct Muxer {
    guest_cid: u64,
    connections_max: usize,
    listener: Listener,
    epoll: Epoll,
    timer: TimerFd,
    /// When the timer wakes.
    wake: Option<Instant>,
    connections: HashMap<Ports, Connection>,
    /// By the guest's part of their tokens.
    clients: HashMap<u32, Client>,
    next_client: u32,
    next_port: u32,
    /// REQUESTs of the guest's. The main thread makes their sockets: a vCPU's thread may not ([`crate::sandbox`]).
    requests: VecDeque<Header>,
    /// Wakes the main thread for them.
    requested: EventFd,
    /// Connections that have a packet for the guest, each once.
    ready: VecDeque<Ports>,
    /// RSTs for the guest.
    resets: VecDeque<Header>,
    /// A client waits for a descriptor to be free.
    starved: bool,
    metrics: Arc<Metrics>,
}

impl Muxer {
    /// Listens at `path`. Nothing is allocated until there are connections.
    pub(super) fn new(guest_cid: u32, path: &Path) -> Result<Self, Error> {
        let muxer = Self {
            guest_cid: guest_cid.into(),
            connections_max: CONNECTIONS_MAX.min(limits::descriptors() / 2),
            epoll: Epoll::new().map_err(Error::Watch)?,
            timer: TimerFd::new().map_err(|err| Error::Watch(err.into()))?,
            listener: Listener::bind(path)?,
            wake: None,
            connections: HashMap::new(),
            clients: HashMap::new(),
            next_client: FIRST_CLIENT,
            next_port: HOST_PORTS,
            requests: VecDeque::new(),
            requested: EventFd::new(EFD_NONBLOCK).map_err(Error::Watch)?,
            ready: VecDeque::new(),
            resets: VecDeque::new(),
            starved: false,
            metrics: Arc::default(),
        };
        muxer.watch(muxer.listener.as_raw_fd(), LISTENER).map_err(Error::Watch)?;
        muxer.watch(muxer.timer.as_raw_fd(), TIMER).map_err(Error::Watch)?;
        muxer.watch(muxer.requested.as_raw_fd(), REQUESTS).map_err(Error::Watch)?;
        Ok(muxer)
    }

    /// Readable when [`Self::poll`] has something to do.
    pub(super) fn descriptor(&self) -> RawFd {
        self.epoll.as_raw_fd()
    }

    pub(super) fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Whether a packet of the guest's can be dealt with: its answer has a place to wait.
    pub(super) fn has_room(&self) -> bool {
        self.resets.len() + self.requests.len() < RESETS_MAX
    }

    /// Whether [`Self::send`] may have something for the guest.
    pub(super) fn has_pending(&self) -> bool {
        !self.resets.is_empty() || !self.ready.is_empty()
    }

    /// Entries that wait for the guest, and connections.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> (usize, usize) {
        (self.ready.len(), self.connections.len())
    }

    #[cfg(test)]
    pub(super) fn clients(&self) -> usize {
        self.clients.len()
    }

    /// Lets the clients' time go by.
    #[cfg(test)]
    pub(super) fn pass(&mut self, time: Duration) {
        self.clients.values_mut().for_each(|client| client.deadline -= time);
        self.wake = None;
        self.wake_at(Instant::now());
    }

    /// Deals with what happened on the host's side, for one turn. The main thread's: sockets are made here.
    pub(super) fn poll(&mut self, turn: &mut Turn) {
        let mut events = [EpollEvent::default(); EVENTS];
        while !turn.is_over() {
            let count = match self.epoll.wait(0, &mut events) {
                Ok(count) => count,
                Err(err) if err.kind() == ErrorKind::Interrupted => continue,
                Err(err) => {
                    log::debug!("Vsock sockets cannot be watched: {err}");
                    return self.metrics.muxer_event_fails.inc();
                }
            };
            for event in &events[..count] {
                self.host_event(Ports::from_token(event.data()), event.event_set());
            }
            if count < EVENTS {
                return;
            }
        }
    }

    /// Deals with a packet of the guest's.
    pub(super) fn receive(&mut self, packet: &Packet) {
        self.metrics.tx_packets_count.inc();
        let header = &packet.header;
        if header.src_cid != self.guest_cid {
            // There is nobody to tell.
            return self.metrics.conn_event_fails.inc();
        }
        if header.dst_cid != HOST_CID || header.kind != STREAM || header.dst_port == PORT_ANY {
            return self.refuse(header);
        }
        let ports = Ports { host: header.dst_port, guest: header.src_port };
        match self.connections.get_mut(&ports) {
            Some(connection) => match connection.receive(packet) {
                Ok(()) => self.settle(ports),
                Err(end) => self.end(ports, &end),
            },
            None if header.op == op::REQUEST => {
                self.requests.push_back(*header);
                self.call_main_thread();
            }
            None => {
                // Whoever does not wait for an answer to a REQUEST has taken it back.
                self.requests.retain(|request| (request.src_port, request.dst_port) != (ports.guest, ports.host));
                self.refuse(header);
            }
        }
    }

    /// Puts the next packet for the guest into `space`; the number of its bytes.
    pub(super) fn send(&mut self, space: &Space) -> Option<u32> {
        let header = self.next(space)?;
        let header = Header { dst_cid: self.guest_cid, ..header };
        space.write_header(&header);
        self.metrics.rx_packets_count.inc();
        Some(HEADER_SIZE as u32 + header.len)
    }

    /// Closes everything but the listener.
    pub(super) fn reset(&mut self) {
        self.metrics.conns_removed.add(self.connections.len() as u64);
        self.connections = HashMap::new();
        self.clients = HashMap::new();
        self.requests = VecDeque::new();
        self.ready = VecDeque::new();
        self.resets = VecDeque::new();
    }

    fn next(&mut self, space: &Space) -> Option<Header> {
        loop {
            if let Some(reset) = self.resets.pop_front() {
                return Some(reset);
            }
            let ports = self.ready.pop_front()?;
            let Some(connection) = self.connections.get_mut(&ports) else { continue };
            connection.queued = false;
            match connection.next_packet(space) {
                Outgoing::None => self.settle(ports),
                Outgoing::End(end) => self.end(ports, &end),
                Outgoing::Packet(header) => {
                    self.settle(ports);
                    return Some(Header { src_cid: HOST_CID, ..header });
                }
            }
        }
    }

    fn host_event(&mut self, ports: Ports, events: EventSet) {
        match ports {
            LISTENER => self.accept(),
            TIMER => self.expire(),
            REQUESTS => self.connect_next(),
            Ports { host: PORT_ANY, guest } => self.serve_client(guest),
            ports => {
                if let Some(connection) = self.connections.get_mut(&ports) {
                    connection.host_event(events);
                    self.settle(ports);
                }
            }
        }
    }

    /// Takes in all clients that wait.
    fn accept(&mut self) {
        self.starved = false;
        loop {
            match self.listener.accept() {
                Ok(socket) => self.add_client(socket),
                Err(err) if err.kind() == ErrorKind::WouldBlock => return,
                Err(err) if matches!(err.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionAborted) => {}
                Err(err) => {
                    // No descriptor, most likely. The client waits.
                    log::debug!("A vsock client has to wait: {err}");
                    self.metrics.muxer_event_fails.inc();
                    self.starved = true;
                    return self.wake_at(Instant::now() + ACCEPT_AGAIN);
                }
            }
        }
    }

    fn add_client(&mut self, socket: UnixStream) {
        if self.is_full() || self.clients.len() >= CLIENTS_MAX {
            log::debug!("A vsock client is one too many");
            return;
        }
        // Clients are few against four billion: there is a free number.
        while self.clients.contains_key(&self.next_client) {
            self.next_client = self.next_client.wrapping_add(1).max(FIRST_CLIENT);
        }
        let number = self.next_client;
        if let Err(err) = self.watch(socket.as_raw_fd(), Ports { host: PORT_ANY, guest: number }) {
            log::debug!("A vsock client cannot be watched: {err}");
            return self.metrics.muxer_event_fails.inc();
        }
        self.next_client = self.next_client.wrapping_add(1).max(FIRST_CLIENT);
        let deadline = Instant::now() + CLIENT_TIME;
        self.clients.insert(number, Client::new(socket, deadline));
        self.serve_client(number);
        if self.clients.contains_key(&number) {
            self.wake_at(deadline);
        }
    }

    fn serve_client(&mut self, number: u32) {
        let Some(client) = self.clients.get_mut(&number) else { return };
        let line = client.read_line();
        if line == Line::Incomplete {
            return;
        }
        let Some(client) = self.forget_client(number) else { return };
        match line {
            Line::Connect(port) => self.request(client.socket, port),
            Line::Incomplete | Line::Invalid => {
                log::debug!("A vsock client has not said CONNECT and a port");
                self.metrics.conn_event_fails.inc();
            }
        }
    }

    fn forget_client(&mut self, number: u32) -> Option<Client> {
        let client = self.clients.remove(&number);
        if self.clients.is_empty() {
            self.clients = HashMap::new();
        }
        client
    }

    /// Asks the guest for a connection to `port`.
    fn request(&mut self, socket: UnixStream, port: u32) {
        let mut ports = Ports { host: self.next_port, guest: port };
        while self.connections.contains_key(&ports) {
            ports.host = next_port(ports.host);
        }
        self.next_port = next_port(ports.host);
        let event = EpollEvent::new(watched(), ports.token());
        match self.epoll.ctl(ControlOperation::Modify, socket.as_raw_fd(), event) {
            Ok(()) => self.add(ports, Connection::from_host(ports, socket, self.buffer_size(), self.metrics.clone())),
            Err(_) => self.metrics.muxer_event_fails.inc(),
        }
    }

    /// Has the main thread call [`Self::poll`].
    pub(super) fn call_main_thread(&self) {
        // A full counter has woken it already.
        let _ = self.requested.write(1);
    }

    /// Makes the next connection that the guest has asked for: one an event, so that a turn has an end.
    fn connect_next(&mut self) {
        let _ = self.requested.read();
        let Some(request) = self.requests.pop_front() else { return };
        if !self.requests.is_empty() {
            self.call_main_thread();
        }
        let ports = Ports { host: request.dst_port, guest: request.src_port };
        match self.connections.contains_key(&ports) {
            true => self.end(ports, &End::Broken),
            false => self.connect(ports, &request),
        }
    }

    /// Connects the guest to the host's process at `PATH_PORT`.
    fn connect(&mut self, ports: Ports, request: &Header) {
        if self.is_full() {
            return self.refuse(request);
        }
        let socket = match listener::connect(&self.path_of(ports.host)) {
            Ok(socket) => socket,
            Err(err) => {
                log::debug!("{ports}: nobody listens: {err}");
                return self.refuse(request);
            }
        };
        match self.watch(socket.as_raw_fd(), ports) {
            Ok(()) => self
                .add(ports, Connection::from_guest(ports, socket, self.buffer_size(), self.metrics.clone(), request)),
            Err(_) => self.refuse(request),
        }
    }

    /// What the next connection may hold of the guest's data: the sum of all is bounded.
    fn buffer_size(&self) -> u32 {
        if self.connections.len() < LARGE_BUFFERS { BUFFER_SIZE } else { BUFFER_SIZE_MANY }
    }

    fn path_of(&self, port: u32) -> PathBuf {
        let mut path = OsString::from(self.listener.path());
        path.push(format!("_{port}"));
        path.into()
    }

    fn add(&mut self, ports: Ports, connection: Connection) {
        self.metrics.conns_added.inc();
        self.connections.insert(ports, connection);
        self.settle(ports);
    }

    /// After something has happened to a connection.
    fn settle(&mut self, ports: Ports) {
        let Some(connection) = self.connections.get_mut(&ports) else { return };
        if let Err(end) = connection.settle() {
            return self.end(ports, &end);
        }
        if connection.has_pending() && !std::mem::replace(&mut connection.queued, true) {
            self.ready.push_back(ports);
        }
        if let Some(deadline) = connection.deadline {
            self.wake_at(deadline);
        }
    }

    fn end(&mut self, ports: Ports, end: &End) {
        let Some(connection) = self.connections.remove(&ports) else { return };
        if connection.queued {
            // The next of these ports is queued by itself.
            self.ready.retain(|ready| *ready != ports);
        }
        log::debug!("{ports}: {end:?}");
        self.metrics.conns_removed.inc();
        if *end == End::Broken {
            self.metrics.conn_event_fails.inc();
            self.metrics.conns_killed.inc();
        }
        if *end != End::ByGuest && connection.is_known() {
            let Ports { host, guest } = ports;
            let reset = Header { src_cid: HOST_CID, src_port: host, dst_port: guest, ..Header::default() };
            self.resets.push_back(Header { kind: STREAM, op: op::RST, ..reset });
        }
        if self.connections.is_empty() {
            self.connections = HashMap::new();
            self.ready = VecDeque::new();
        }
    }

    /// Answers a packet that no connection can be found for. Nobody answers an RST.
    fn refuse(&mut self, header: &Header) {
        if header.op != op::RST {
            self.resets.push_back(Header {
                src_cid: header.dst_cid,
                src_port: header.dst_port,
                dst_port: header.src_port,
                kind: header.kind,
                op: op::RST,
                ..Header::default()
            });
        }
    }

    fn is_full(&self) -> bool {
        self.connections.len() + self.clients.len() >= self.connections_max
    }

    /// The timer has woken: ends what has not gone on, and sets it for what is next.
    fn expire(&mut self) {
        let now = Instant::now();
        let late = self.wake.take().is_some_and(|wake| now.duration_since(wake) > LATE);
        let deadlines = self.connections.iter_mut().filter_map(|(ports, it)| Some((*ports, it.deadline.as_mut()?)));
        let (overdue, next) = expired(deadlines, now, late.then_some(TIMEOUT));
        for ports in overdue {
            self.metrics.conns_killed.inc();
            self.end(ports, &End::Done);
        }
        let deadlines = self.clients.iter_mut().map(|(number, client)| (*number, &mut client.deadline));
        let (silent, next_client) = expired(deadlines, now, late.then_some(CLIENT_TIME));
        for number in silent {
            self.metrics.conns_killed.inc();
            self.forget_client(number);
        }
        if let Some(next) = next.into_iter().chain(next_client).min() {
            self.wake_at(next);
        }
        if self.starved {
            self.accept();
        }
    }

    fn wake_at(&mut self, at: Instant) {
        if self.wake.is_some_and(|wake| wake <= at) {
            return;
        }
        let wait = at.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1));
        match self.timer.reset(wait, None) {
            Ok(()) => self.wake = Some(at),
            Err(err) => log::error!("The vsock timer cannot be set: {}", io::Error::from(err)),
        }
    }

    fn watch(&self, descriptor: RawFd, ports: Ports) -> io::Result<()> {
        self.epoll.ctl(ControlOperation::Add, descriptor, EpollEvent::new(watched(), ports.token()))
    }
}

/// Who is overdue, and the next deadline of the others. With `again` all who are get so much more time.
fn expired<'a, T>(
    deadlines: impl Iterator<Item = (T, &'a mut Instant)>,
    now: Instant,
    again: Option<Duration>,
) -> (Vec<T>, Option<Instant>) {
    let mut overdue = Vec::new();
    let mut next: Option<Instant> = None;
    for (who, deadline) in deadlines {
        match again {
            _ if *deadline > now => {}
            Some(again) => *deadline = now + again,
            None => {
                overdue.push(who);
                continue;
            }
        }
        next = Some(next.map_or(*deadline, |next| next.min(*deadline)));
    }
    (overdue, next)
}

/// Edge-triggered, as the device's own descriptor is: what is not used up is remembered, not seen again.
fn watched() -> EventSet {
    EventSet::IN | EventSet::OUT | EventSet::READ_HANG_UP | EventSet::EDGE_TRIGGERED
}

fn next_port(port: u32) -> u32 {
    HOST_PORTS + port.wrapping_add(1) % HOST_PORTS
}
