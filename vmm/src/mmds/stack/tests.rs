// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used, clippy::panic)]

use proptest::prelude::*;
use secretvmm_api::{MmdsConfig, MmdsVersion};
use serde_json::json;
use smoltcp::wire::{IpAddress, IpProtocol, Ipv4Packet, Ipv4Repr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber};

use super::*;
use crate::mmds::store::{ADDRESS, SIZE_LIMIT};

const GUEST: Ipv4Addr = Ipv4Addr::new(172, 16, 0, 2);

/// A guest: a network stack of its own, and what is not for the service.
struct Guest {
    stack: Stack,
    interface: Interface,
    sockets: SocketSet<'static>,
    wire: Wire,
    start: Instant,
    to_tap: usize,
    from_service: usize,
    port: u16,
}

fn mmds() -> Arc<Mutex<Mmds>> {
    let mut mmds = Mmds::new(SIZE_LIMIT);
    let (version, network_interfaces) = (MmdsVersion::V1, vec!["eth0".into()]);
    mmds.configure(&MmdsConfig { version, network_interfaces, ipv4_address: None, imds_compat: false }).unwrap();
    mmds.put(json!({"a": "b", "long": "x".repeat(50_000)})).unwrap();
    Arc::new(Mutex::new(mmds))
}

fn guest() -> Guest {
    let mut wire = Wire::default();
    let config = Config::new(EthernetAddress([6, 0, 0, 0, 0, 2]).into());
    let mut interface = Interface::new(config, &mut wire, time::Instant::ZERO);
    interface.update_ip_addrs(|addresses| addresses.push(IpCidr::new(GUEST.into(), 0)).unwrap());
    Guest {
        stack: Stack::new(ADDRESS, mmds()),
        interface,
        sockets: SocketSet::new(Vec::new()),
        wire,
        start: Instant::now(),
        to_tap: 0,
        from_service: 0,
        port: 40_000,
    }
}

impl Guest {
    fn connect(&mut self, address: Ipv4Addr, port: u16) -> SocketHandle {
        let buffer = || tcp::SocketBuffer::new(vec![0; 4096]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        self.port += 1;
        socket.connect(self.interface.context(), (IpAddress::from(address), port), self.port).unwrap();
        self.sockets.add(socket)
    }

    fn socket(&mut self, handle: SocketHandle) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    /// Frames go to and fro until nobody has anything to say.
    fn settle(&mut self) {
        for _ in 0..1000 {
            let now = time::Instant::from_micros(i64::try_from(self.start.elapsed().as_micros()).unwrap());
            self.interface.poll(now, &mut self.wire, &mut self.sockets);
            let sent: Vec<_> = self.wire.to_send.drain(..).collect();
            for frame in &sent {
                if self.stack.wants(&frame[..frame.len().min(HEAD)]) {
                    self.stack.take(frame.len(), |bytes| bytes.copy_from_slice(frame));
                } else {
                    self.to_tap += 1;
                }
            }
            let mut silent = sent.is_empty();
            while let Some(frame) = self.stack.next().map(<[u8]>::to_vec) {
                assert_eq!(frame[6..12], MAC.0);
                self.wire.received.push_back(frame.into());
                self.stack.sent();
                self.from_service += 1;
                silent = false;
            }
            if silent {
                return;
            }
        }
        panic!("they never stop");
    }

    fn send(&mut self, handle: SocketHandle, text: &str) {
        assert_eq!(self.socket(handle).send_slice(text.as_bytes()).unwrap(), text.len());
        self.settle();
    }

    fn read(&mut self, handle: SocketHandle) -> String {
        let mut all = Vec::new();
        loop {
            let mut part = [0; 1000];
            match self.socket(handle).recv_slice(&mut part) {
                Ok(count @ 1..) => all.extend_from_slice(&part[..count]),
                _ => return String::from_utf8(all).unwrap(),
            }
            self.settle();
        }
    }

    /// Lets the service believe that it has waited.
    fn pass(&mut self, time: Duration) {
        for connection in &mut self.stack.network.as_mut().unwrap().connections {
            connection.waiting -= time;
        }
    }

    /// Gives the service a frame, and takes all that it says to it.
    fn exchange(&mut self, frame: &[u8]) -> Vec<Vec<u8>> {
        if self.stack.wants(&frame[..frame.len().min(HEAD)]) {
            self.stack.take(frame.len(), |bytes| bytes.copy_from_slice(frame));
        }
        let mut answers = Vec::new();
        while let Some(answer) = self.stack.next().map(<[u8]>::to_vec) {
            answers.push(answer);
            self.stack.sent();
        }
        answers
    }

    fn connections(&self) -> usize {
        self.stack.network.as_ref().map_or(0, |network| network.connections.len())
    }
}

#[test]
fn request_is_answered_and_the_rest_goes_to_the_tap() {
    let mut guest = guest();
    guest.connect(Ipv4Addr::new(172, 16, 0, 1), PORT);
    guest.settle();
    assert_eq!((guest.to_tap, guest.from_service), (1, 0), "asks where the other is");

    let mut guest = self::guest();
    let handle = guest.connect(ADDRESS, PORT);
    guest.settle();
    guest.send(handle, "GET /a HTTP/1.1\r\n");
    assert_eq!(guest.read(handle), "");
    guest.send(handle, "\r\n");
    assert!(guest.read(handle).ends_with("\r\n\r\nb"));
    assert_eq!(guest.to_tap, 0);
}

#[test]
fn long_answers_come_in_order_and_pipelined() {
    let mut guest = guest();
    let handle = guest.connect(ADDRESS, PORT);
    guest.settle();
    guest.send(handle, "GET /long HTTP/1.1\r\n\r\nGET /a HTTP/1.1\r\n\r\n");
    let text = guest.read(handle);
    assert_eq!(text.matches('x').count() - text.matches("text").count(), 50_000);
    assert!(text.ends_with("\r\n\r\nb"));
}

#[test]
fn connection_closed_by_either_side_leaves_nothing() {
    for request in ["GET /a HTTP/1.1\r\n\r\n", "GET /a HTTP/1.1\r\nConnection: close\r\n\r\n", "nonsense\r\n"] {
        let mut guest = guest();
        let handle = guest.connect(ADDRESS, PORT);
        guest.settle();
        guest.send(handle, request);
        assert!(guest.read(handle).starts_with("HTTP/1."));
        guest.socket(handle).close();
        guest.settle();
        assert_eq!(guest.connections(), 0);
        guest.stack.poll();
        assert!(guest.stack.network.is_none());
        assert_eq!(guest.stack.deadline(), None);
    }
}

#[test]
fn guest_that_sends_to_its_gateway_is_heard() {
    let mut guest = guest();
    let handle = guest.connect(ADDRESS, PORT);
    // The gateway's address for every other.
    let reply = ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Reply,
        source_hardware_addr: EthernetAddress([2, 0, 0, 0, 0, 1]),
        source_protocol_addr: ADDRESS,
        target_hardware_addr: EthernetAddress([6, 0, 0, 0, 0, 2]),
        target_protocol_addr: GUEST,
    };
    let mut bytes = vec![0; 14 + reply.buffer_len()];
    let mut frame = EthernetFrame::new_unchecked(&mut bytes);
    frame.set_dst_addr(EthernetAddress([6, 0, 0, 0, 0, 2]));
    frame.set_ethertype(EthernetProtocol::Arp);
    reply.emit(&mut ArpPacket::new_unchecked(frame.payload_mut()));
    guest.wire.received.push_back(bytes.into());
    guest.settle();
    guest.send(handle, "GET /a HTTP/1.1\r\n\r\n");
    assert!(guest.read(handle).ends_with("b"));
}

#[test]
fn other_ports_and_protocols_are_not_answered() {
    let mut guest = guest();
    let handle = guest.connect(ADDRESS, 22);
    guest.settle();
    assert_eq!(guest.socket(handle).state(), tcp::State::Closed, "refused");

    let from_service = guest.from_service;
    let mut ping = vec![0; 60];
    let mut frame = EthernetFrame::new_unchecked(&mut ping);
    frame.set_ethertype(EthernetProtocol::Ipv4);
    frame.set_src_addr(EthernetAddress([6, 0, 0, 0, 0, 2]));
    frame.payload_mut()[0] = 0x45;
    frame.payload_mut()[3] = 46;
    frame.payload_mut()[9] = 1;
    frame.payload_mut()[16..20].copy_from_slice(&ADDRESS.octets());
    assert!(guest.stack.wants(&ping[..HEAD]));
    guest.stack.take(ping.len(), |bytes| bytes.copy_from_slice(&ping));
    guest.stack.take(100_000, |_| panic!("too long to be copied"));
    guest.settle();
    assert_eq!(guest.from_service, from_service);
    assert_eq!(guest.stack.metrics.rx_accepted_unusual.total(), 2);
}

#[test]
fn connections_are_bounded_and_an_idle_one_makes_room() {
    let mut guest = guest();
    for _ in 0..CONNECTIONS_MAX + 5 {
        let handle = guest.connect(ADDRESS, PORT);
        guest.settle();
        guest.send(handle, "GET /a HTTP/1.1\r\n\r\n");
        assert!(guest.read(handle).ends_with("b"));
        assert!(guest.connections() <= CONNECTIONS_MAX);
    }
    // Those with half a request stay for a while.
    let mut guest = self::guest();
    for at in 0..CONNECTIONS_MAX + 5 {
        let handle = guest.connect(ADDRESS, PORT);
        guest.settle();
        assert_eq!(guest.socket(handle).may_send(), at < CONNECTIONS_MAX);
        if at < CONNECTIONS_MAX {
            guest.send(handle, "GET");
        }
    }
    assert_eq!(guest.connections(), CONNECTIONS_MAX);
    assert!(guest.stack.deadline().unwrap() <= REQUEST_TIME);
}

#[test]
fn half_requests_and_answers_that_nobody_takes_make_room() {
    for request in ["GET", "GET /long HTTP/1.1\r\n\r\n"] {
        let mut guest = guest();
        for _ in 0..CONNECTIONS_MAX {
            let handle = guest.connect(ADDRESS, PORT);
            guest.settle();
            guest.send(handle, request);
        }
        guest.pass(REQUEST_TIME);
        // Whoever comes now, or tries again, finds a place.
        guest.stack.poll();
        let handle = guest.connect(ADDRESS, PORT);
        guest.settle();
        guest.send(handle, "GET /a HTTP/1.1\r\n\r\n");
        assert!(guest.read(handle).ends_with('b'), "{request:?}");
    }
}

#[test]
fn request_that_ends_too_early_is_answered() {
    let begin = "PUT /latest/api/token HTTP/1.1\r\nContent-Length: 10\r\n\r\nshort";
    let mut guest = guest();
    let handle = guest.connect(ADDRESS, PORT);
    guest.settle();
    guest.send(handle, begin);
    assert_eq!(guest.read(handle), "");
    guest.socket(handle).close();
    guest.settle();
    assert!(guest.read(handle).contains("400 Bad Request"), "after the end of the client's side");

    let handle = guest.connect(ADDRESS, PORT);
    guest.settle();
    guest.send(handle, begin);
    guest.pass(REQUEST_TIME);
    guest.stack.poll();
    guest.settle();
    assert!(guest.read(handle).contains("Invalid request"), "after a while");
    guest.settle();
    assert!(guest.stack.deadline().is_none_or(|wait| !wait.is_zero()), "it would be called without end");
}

#[test]
fn guest_that_takes_no_frames_fills_no_memory() {
    let mut guest = guest();
    let handle = guest.connect(ADDRESS, PORT);
    guest.settle();
    let mut request = vec![0; 60];
    ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Request,
        source_hardware_addr: EthernetAddress([6, 0, 0, 0, 0, 2]),
        source_protocol_addr: GUEST,
        target_hardware_addr: EthernetAddress([0; 6]),
        target_protocol_addr: ADDRESS,
    }
    .emit(&mut ArpPacket::new_unchecked(&mut request[14..]));
    let mut frame = EthernetFrame::new_unchecked(&mut request);
    frame.set_src_addr(EthernetAddress([6, 0, 0, 0, 0, 2]));
    frame.set_dst_addr(EthernetAddress::BROADCAST);
    frame.set_ethertype(EthernetProtocol::Arp);
    for _ in 0..1000 {
        assert!(guest.stack.wants(&request[..HEAD]));
        guest.stack.take(request.len(), |bytes| bytes.copy_from_slice(&request));
    }
    assert!(guest.stack.wire.to_send.len() <= 2 * FRAMES_MAX);
    guest.send(handle, "GET /a HTTP/1.1\r\n\r\n");
    assert!(guest.read(handle).ends_with("b"));
}

/// A segment of one of a few hosts and ports, said relative to what the service has said before.
#[derive(Debug, Clone)]
struct Segment {
    host: u8,
    port: u16,
    service_port: u16,
    control: TcpControl,
    seq: i32,
    ack: Option<i32>,
    window: u16,
    mss: Option<u16>,
    scale: Option<u8>,
    sack: bool,
    payload: Vec<u8>,
}

prop_compose! {
    fn any_segment()(
        host in 2..4_u8,
        port in 50_000..50_002_u16,
        service_port in prop_oneof![8 => Just(PORT), 1 => Just(22)],
        control in prop_oneof![
            4 => Just(TcpControl::None), 4 => Just(TcpControl::Psh), 4 => Just(TcpControl::Syn),
            2 => Just(TcpControl::Fin), 1 => Just(TcpControl::Rst)
        ],
        seq in prop_oneof![8 => Just(0), 2 => -50..50_i32, 1 => any::<i32>()],
        ack in prop_oneof![6 => Just(Some(0)), 2 => Just(None), 2 => (-50..50_i32).prop_map(Some), 1 => any::<i32>().prop_map(Some)],
        window in prop_oneof![Just(0), 1..100_u16, any::<u16>()],
        mss in prop_oneof![3 => Just(None), 1 => (0..3_u16).prop_map(Some), 1 => any::<u16>().prop_map(Some)],
        scale in prop_oneof![3 => Just(None), 1 => any::<u8>().prop_map(Some)],
        sack in any::<bool>(),
        payload in prop_oneof![
            Just(Vec::new()), Just(b"GET /long HTTP/1.1\r\n\r\n".to_vec()), prop::collection::vec(any::<u8>(), 0..60)
        ],
    ) -> Segment {
        Segment { host, port, service_port, control, seq, ack, window, mss, scale, sack, payload }
    }
}

/// What the service has said last to a host's port: the sequence number behind it, and what it has heard.
type Said = std::collections::HashMap<(Ipv4Addr, u16), (i32, i32)>;

impl Segment {
    fn host(&self) -> Ipv4Addr {
        Ipv4Addr::new(172, 16, 0, self.host)
    }

    /// As a frame whose checksums are right.
    fn frame(&self, said: &Said) -> Vec<u8> {
        let (next, heard) = said.get(&(self.host(), self.port)).copied().unwrap_or_default();
        let tcp = TcpRepr {
            src_port: self.port,
            dst_port: self.service_port,
            control: self.control,
            seq_number: TcpSeqNumber(heard.wrapping_add(self.seq)),
            ack_number: self.ack.map(|ack| TcpSeqNumber(next.wrapping_add(ack))),
            window_len: self.window,
            window_scale: self.scale,
            max_seg_size: self.mss,
            sack_permitted: self.sack,
            sack_ranges: [None; 3],
            timestamp: None,
            payload: &self.payload,
        };
        let ip = Ipv4Repr {
            src_addr: self.host(),
            dst_addr: ADDRESS,
            next_header: IpProtocol::Tcp,
            payload_len: tcp.buffer_len(),
            hop_limit: 64,
        };
        let checksums = ChecksumCapabilities::default();
        let mut bytes = vec![0; 14 + ip.buffer_len() + tcp.buffer_len()];
        let mut ethernet = EthernetFrame::new_unchecked(&mut bytes);
        ethernet.set_src_addr(EthernetAddress([6, 0, 0, 0, 0, self.host]));
        ethernet.set_dst_addr(MAC);
        ethernet.set_ethertype(EthernetProtocol::Ipv4);
        let mut packet = Ipv4Packet::new_unchecked(ethernet.payload_mut());
        ip.emit(&mut packet, &checksums);
        let mut segment = TcpPacket::new_unchecked(packet.payload_mut());
        tcp.emit(&mut segment, &self.host().into(), &ADDRESS.into(), &checksums);
        bytes
    }
}

/// Notes what a frame of the service's says.
fn note(said: &mut Said, frame: &[u8]) {
    let ethernet = EthernetFrame::new_checked(frame).unwrap();
    if ethernet.ethertype() != EthernetProtocol::Ipv4 {
        return;
    }
    let packet = Ipv4Packet::new_checked(ethernet.payload()).unwrap();
    let tcp = TcpPacket::new_checked(packet.payload()).unwrap();
    let next = tcp.seq_number() + tcp.segment_len();
    said.insert((packet.dst_addr(), tcp.dst_port()), (next.0, tcp.ack_number().0));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_frame_is_survived(
        kind in prop_oneof![Just([8_u8, 0]), Just([8, 6])],
        protocol in prop_oneof![Just(6_u8), any::<u8>()],
        frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 42..120), 1..10),
    ) {
        let mut guest = guest();
        for mut frame in frames {
            frame[12..14].copy_from_slice(&kind);
            frame[14] = 0x45;
            frame[23] = protocol;
            let at = if kind == [8, 6] { 38 } else { 30 };
            frame[at..at + 4].copy_from_slice(&ADDRESS.octets());
            prop_assert!(guest.stack.wants(&frame[..HEAD]));
            guest.stack.take(frame.len(), |bytes| bytes.copy_from_slice(&frame));
        }
        let handle = guest.connect(ADDRESS, PORT);
        guest.settle();
        guest.send(handle, "GET /a HTTP/1.1\r\n\r\n");
        prop_assert!(guest.read(handle).ends_with("b"));
    }

    #[test]
    fn any_segments_of_hosts_are_survived(segments in prop::collection::vec(any_segment(), 1..60)) {
        let mut guest = guest();
        let mut said = Said::new();
        for segment in segments {
            let answers = guest.exchange(&segment.frame(&said));
            answers.iter().for_each(|answer| note(&mut said, answer));
            prop_assert!(guest.connections() <= CONNECTIONS_MAX);
            // A host may want its answer byte by byte.
            prop_assert!(answers.len() <= 2 * SEND_BUFFER, "{} frames for one", answers.len());
        }
        let handle = guest.connect(ADDRESS, PORT);
        guest.settle();
        guest.send(handle, "GET /a HTTP/1.1\r\n\r\n");
        prop_assert!(guest.read(handle).ends_with('b'));
    }
}
