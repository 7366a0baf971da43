// SPDX-License-Identifier: Apache-2.0
//! The service's own end of the network: Ethernet, ARP, IPv4 and TCP by smoltcp, HTTP above them.
//!
//! One stack serves one network device. All that it holds is bounded: [`CONNECTIONS_MAX`]
//! connections of a few KiB and one answer each, [`FRAMES_MAX`] frames for the guest. Frames, requests and
//! answers are wiped when they are done with; smoltcp's own buffers of a connection are not.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{self, Checksum, ChecksumCapabilities, DeviceCapabilities, Medium};
use smoltcp::socket::tcp;
use smoltcp::time;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol, IpCidr, Ipv4Packet,
};

use zeroize::Zeroizing;

use super::admission::{self, Admitted, MAC};
use super::http::{self, REQUEST_MAX};
use super::{Metrics, Mmds, lock};

/// The only port with something behind it.
const PORT: u16 = 80;
/// Connections at a time. When there are as many, the one that has kept the service waiting longest makes room.
const CONNECTIONS_MAX: usize = 16;
/// How long a connection may be silent.
const IDLE: Duration = Duration::from_secs(30);
/// How long a new connection may be without a request when others want its place.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long a request may take to be complete, and when others want its place, an answer to be taken.
const REQUEST_TIME: Duration = Duration::from_secs(5);
/// Frames that wait for the guest to have buffers.
const FRAMES_MAX: usize = 16;
/// A header, and the link's MTU.
const FRAME_LEN: usize = 14 + 1500;
/// What a guest that leaves segmentation to the device can send within the window.
const RECEIVED_MAX: usize = 2 * REQUEST_MAX;
const SEND_BUFFER: usize = 8192;
/// How much of a frame [`Stack::wants`] looks at.
pub(crate) const HEAD: usize = 42;

/// A network of two: the guest and the metadata service.
pub(crate) struct Stack {
    address: Ipv4Addr,
    mmds: Arc<Mutex<Mmds>>,
    metrics: Arc<Metrics>,
    start: Instant,
    wire: Wire,
    /// Made for the first frame: most guests never ask.
    network: Option<Network>,
}

struct Network {
    interface: Interface,
    sockets: SocketSet<'static>,
    /// The next connection's, unless all are taken.
    listener: Option<SocketHandle>,
    connections: Vec<Connection>,
}

/// One client's.
struct Connection {
    socket: SocketHandle,
    /// Of [`REQUEST_MAX`] bytes from the start, so that it is nowhere else.
    request: Zeroizing<Vec<u8>>,
    answer: Zeroizing<Vec<u8>>,
    /// How much of the answer is sent.
    sent: usize,
    close: bool,
    /// It has had what it came for, once at least.
    answered: bool,
    /// Since when the service waits for the client: to begin a request, to end it, or to take more of the answer.
    waiting: Instant,
}

impl Stack {
    /// The service at `address`.
    pub(crate) fn new(address: Ipv4Addr, mmds: Arc<Mutex<Mmds>>) -> Self {
        let metrics = lock(&mmds).metrics();
        Self { address, mmds, metrics, start: Instant::now(), wire: Wire::default(), network: None }
    }

    /// Whether a frame that begins so (its first [`HEAD`] bytes, or fewer) is for the service.
    pub(crate) fn wants(&self, head: &[u8]) -> bool {
        let destination = match head.get(12..14) {
            Some([0x08, 0x06]) => head.get(38..42),
            Some([0x08, 0x00]) => head.get(30..34),
            _ => None,
        };
        destination == Some(self.address.octets().as_slice())
    }

    /// Takes a frame, without the virtio header, that [`Self::wants`] has said yes to. `len` bytes are
    /// copied by `read`.
    pub(crate) fn take(&mut self, len: usize, read: impl FnOnce(&mut [u8])) {
        self.metrics.rx_accepted.inc();
        if len <= RECEIVED_MAX {
            let mut frame = Zeroizing::new(vec![0; len]);
            read(&mut frame);
            if self.admit(&mut frame) {
                self.wire.received.push_back(frame);
                return self.poll();
            }
        }
        self.metrics.rx_accepted_unusual.inc();
    }

    /// Readies a frame for the library, if that has a use for it and a host may send it.
    fn admit(&mut self, frame: &mut [u8]) -> bool {
        match admission::admit(frame, self.address) {
            None => false,
            Some(Admitted::Arp) => true,
            Some(Admitted::Tcp(sender, source)) => {
                // A guest without a route of its own for the service sends to its gateway's address.
                let mut ethernet = EthernetFrame::new_unchecked(frame);
                ethernet.set_dst_addr(MAC);
                admission::without_sack(Ipv4Packet::new_unchecked(ethernet.payload_mut()).payload_mut());
                self.wire.received.push_back(self.arp(sender, source).into());
                true
            }
        }
    }

    /// The ARP reply that makes the guest's address known, so that it need not be asked for it.
    fn arp(&self, guest: EthernetAddress, address: Ipv4Addr) -> Vec<u8> {
        let reply = ArpRepr::EthernetIpv4 {
            operation: ArpOperation::Reply,
            source_hardware_addr: guest,
            source_protocol_addr: address,
            target_hardware_addr: MAC,
            target_protocol_addr: self.address,
        };
        let mut bytes = vec![0; EthernetFrame::<&[u8]>::buffer_len(reply.buffer_len())];
        let mut frame = EthernetFrame::new_unchecked(&mut bytes);
        frame.set_src_addr(guest);
        frame.set_dst_addr(MAC);
        frame.set_ethertype(EthernetProtocol::Arp);
        reply.emit(&mut ArpPacket::new_unchecked(frame.payload_mut()));
        bytes
    }

    /// The next frame for the guest, which stays until [`Self::sent`].
    pub(crate) fn next(&self) -> Option<&[u8]> {
        self.wire.to_send.front().map(|frame| frame.as_slice())
    }

    /// The guest has got that frame.
    pub(crate) fn sent(&mut self) {
        if let Some(frame) = self.wire.to_send.pop_front() {
            self.metrics.tx_frames.inc();
            self.metrics.tx_bytes.add(frame.len() as u64);
        }
        if self.wire.to_send.is_empty() {
            self.poll();
        }
    }

    /// Does what there is to do; to be called when [`Self::deadline`] has passed.
    pub(crate) fn poll(&mut self) {
        let now = self.now();
        let network = match &mut self.network {
            Some(network) => network,
            // Nothing to do before anyone has asked.
            None if self.wire.received.is_empty() => return,
            network => network.insert(Network::new(self.address, &mut self.wire, now)),
        };
        // Once to hear, and once to say what the answers are.
        for _ in 0..2 {
            network.interface.poll(now, &mut self.wire, &mut network.sockets);
            network.serve(&lock(&self.mmds), &self.metrics);
        }
        network.interface.poll(now, &mut self.wire, &mut network.sockets);
        if network.connections.is_empty() && self.wire.to_send.is_empty() {
            // Costs nothing until the guest asks again.
            self.network = None;
        }
    }

    /// How long to wait before [`Self::poll`] has something to do without a frame; None if forever.
    pub(crate) fn deadline(&mut self) -> Option<Duration> {
        let now = self.now();
        let network = self.network.as_mut()?;
        let idle = network.connections.iter().map(Connection::deadline).min();
        let poll = network.interface.poll_delay(now, &network.sockets).map(Duration::from);
        // With frames waiting for the guest there is nothing to do before it has taken them.
        let poll = poll.filter(|_| self.wire.to_send.len() < FRAMES_MAX);
        idle.into_iter().chain(poll).min()
    }

    fn now(&self) -> time::Instant {
        time::Instant::from_micros(i64::try_from(self.start.elapsed().as_micros()).unwrap_or(i64::MAX))
    }
}

impl Network {
    fn new(address: Ipv4Addr, wire: &mut Wire, now: time::Instant) -> Self {
        let mut config = Config::new(MAC.into());
        // Without random numbers, sequence numbers can be guessed: by the guest, whose own they are.
        let mut seed = [0; 8];
        let _ = getrandom::fill(&mut seed);
        config.random_seed = u64::from_ne_bytes(seed);
        let mut interface = Interface::new(config, wire, now);
        // Every guest address is on this link.
        interface.update_ip_addrs(|addresses| {
            let _ = addresses.push(IpCidr::new(address.into(), 0));
        });
        let mut network =
            Self { interface, sockets: SocketSet::new(Vec::new()), listener: None, connections: Vec::new() };
        network.listen();
        network
    }

    /// Goes once through all connections, and accepts a new one.
    fn serve(&mut self, mmds: &Mmds, metrics: &Metrics) {
        let Self { sockets, connections, .. } = self;
        connections.retain_mut(|connection| {
            let socket = sockets.get_mut::<tcp::Socket>(connection.socket);
            connection.serve(socket, mmds);
            let over = matches!(socket.state(), tcp::State::Closed | tcp::State::TimeWait)
                || connection.waiting.elapsed() >= IDLE;
            if over {
                sockets.remove(connection.socket);
                metrics.connections_destroyed.inc();
            }
            !over
        });
        let taken = self.listener.take_if(|socket| sockets.get::<tcp::Socket>(*socket).state() != tcp::State::Listen);
        if let Some(socket) = taken {
            metrics.connections_created.inc();
            let (request, answer) = (Vec::with_capacity(REQUEST_MAX).into(), Zeroizing::default());
            let waiting = Instant::now();
            connections.push(Connection { socket, request, answer, sent: 0, close: false, answered: false, waiting });
        }
        if connections.len() >= CONNECTIONS_MAX && self.listener.is_none() {
            let late = |(_, connection): &(usize, &Connection)| connection.is_late();
            let oldest = connections.iter().enumerate().filter(late).min_by_key(|(_, connection)| connection.waiting);
            if let Some((at, _)) = oldest {
                sockets.remove(connections.remove(at).socket);
                metrics.connections_destroyed.inc();
            }
        }
        self.listen();
    }

    fn listen(&mut self) {
        if self.listener.is_some() || self.connections.len() >= CONNECTIONS_MAX {
            return;
        }
        let buffer = |len| tcp::SocketBuffer::new(vec![0; len]);
        let mut socket = tcp::Socket::new(buffer(REQUEST_MAX), buffer(SEND_BUFFER));
        socket.set_timeout(Some(time::Duration::from_secs(IDLE.as_secs())));
        socket.set_nagle_enabled(false);
        socket.set_ack_delay(None);
        // It fails on an open socket and for port 0 only.
        if socket.listen(PORT).is_ok() {
            self.listener = Some(self.sockets.add(socket));
        }
    }
}

impl Connection {
    /// Reads what there is, answers what is complete, sends what fits.
    fn serve(&mut self, socket: &mut tcp::Socket, mmds: &Mmds) {
        loop {
            if self.sent < self.answer.len() {
                let count = socket.send_slice(&self.answer[self.sent..]).unwrap_or(0);
                if count == 0 {
                    return;
                }
                self.sent += count;
                self.waiting = Instant::now();
            } else if self.close {
                return socket.close();
            } else {
                self.answer = Zeroizing::default();
                self.sent = 0;
                if !self.read(socket, mmds) {
                    break;
                }
            }
        }
        if !socket.may_recv() && socket.may_send() {
            socket.close();
        }
    }

    /// Reads on and makes the next answer; false if there is nothing to answer.
    fn read(&mut self, socket: &mut tcp::Socket, mmds: &Mmds) -> bool {
        let begins = self.request.is_empty();
        let mut part = Zeroizing::new([0; 512]);
        while self.request.len() < REQUEST_MAX {
            let room = part.len().min(REQUEST_MAX - self.request.len());
            match socket.recv_slice(&mut part[..room]) {
                Ok(count @ 1..) => self.request.extend_from_slice(&part[..count]),
                _ => break,
            }
        }
        // Empty lines between requests are no request (RFC 9112, section 2.2).
        let blank = self.request.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        self.request.drain(..blank);
        if self.request.is_empty() {
            return false;
        }
        if begins {
            self.waiting = Instant::now();
        }
        // The rest does not come any more, or would hold the place for too long.
        let over = !socket.may_recv() || self.waiting.elapsed() >= REQUEST_TIME;
        let answer = http::answer(&self.request, mmds).or_else(|| over.then(http::incomplete));
        let Some(answer) = answer else { return false };
        // Nothing behind the last request is one.
        let consumed = if answer.close { self.request.len() } else { answer.consumed };
        self.request.drain(..consumed);
        (self.answer, self.sent, self.close, self.answered) = (answer.bytes, 0, answer.close, true);
        true
    }

    /// Whether it has to make room for another client.
    fn is_late(&self) -> bool {
        let between_requests = self.request.is_empty() && self.sent >= self.answer.len();
        let patience = match (between_requests, self.answered) {
            (true, true) => Duration::ZERO,
            (true, false) => PATIENCE,
            (false, _) => REQUEST_TIME,
        };
        self.waiting.elapsed() >= patience
    }

    /// How long until it is to be looked at, whatever its client does.
    fn deadline(&self) -> Duration {
        let in_request = !self.request.is_empty() && self.sent >= self.answer.len();
        let limit = if in_request { REQUEST_TIME } else { IDLE };
        limit.saturating_sub(self.waiting.elapsed())
    }
}

/// What smoltcp takes for a network card.
#[derive(Default)]
struct Wire {
    received: VecDeque<Zeroizing<Vec<u8>>>,
    to_send: VecDeque<Zeroizing<Vec<u8>>>,
}

impl phy::Device for Wire {
    type RxToken<'a> = Received;
    type TxToken<'a> = ToSend<'a>;

    fn receive(&mut self, _now: time::Instant) -> Option<(Received, ToSend<'_>)> {
        // An answer to one more frame has a place: at most two frames come at a time.
        let frame = self.received.pop_front()?;
        Some((Received(frame), ToSend(&mut self.to_send)))
    }

    fn transmit(&mut self, _now: time::Instant) -> Option<ToSend<'_>> {
        (self.to_send.len() < FRAMES_MAX).then_some(ToSend(&mut self.to_send))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut checksum = ChecksumCapabilities::default();
        // The guest may leave them to the device.
        checksum.tcp = Checksum::Tx;
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = FRAME_LEN;
        capabilities.checksum = checksum;
        capabilities
    }
}

struct Received(Zeroizing<Vec<u8>>);

impl phy::RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(&self.0)
    }
}

struct ToSend<'a>(&'a mut VecDeque<Zeroizing<Vec<u8>>>);

impl phy::TxToken for ToSend<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, write: F) -> R {
        let mut frame = Zeroizing::new(vec![0; len]);
        let result = write(&mut frame);
        // A guest that sends and never receives loses answers, as on any network.
        if self.0.len() < 2 * FRAMES_MAX {
            self.0.push_back(frame);
        }
        result
    }
}

#[cfg(test)]
mod tests;
