// SPDX-License-Identifier: Apache-2.0
//! Which of the guest's frames reach the TCP/IP library.
//!
//! It is made for networks whose routers have dropped what no host may send, and asserts what it takes for
//! granted. A guest is no such network.

use std::net::Ipv4Addr;

use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol, IpProtocol, Ipv4Packet,
    TcpPacket,
};

/// The service's address on the Ethernet, as Firecracker's.
pub(super) const MAC: EthernetAddress = EthernetAddress([0x06, 0x01, 0x23, 0x45, 0x67, 0x01]);

/// A TCP header without options, and the kinds of options (RFC 9293, 3.1).
const FIXED_HEADER: usize = 20;
const END_OF_OPTIONS: u8 = 0;
const NO_OPERATION: u8 = 1;
const SACK_PERMITTED: u8 = 4;

/// What may go on to the library.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Admitted {
    /// A question for the address of the service.
    Arp,
    /// A TCP segment from this host.
    Tcp(EthernetAddress, Ipv4Addr),
}

/// Looks at a frame for the service at `address`. None if the service has no use for it, or if no host
/// may send it.
pub(super) fn admit(frame: &[u8], address: Ipv4Addr) -> Option<Admitted> {
    let ethernet = EthernetFrame::new_checked(frame).ok()?;
    let sender = Some(ethernet.src_addr()).filter(|sender| is_station(*sender))?;
    match ethernet.ethertype() {
        EthernetProtocol::Arp => {
            let arp = ArpRepr::parse(&ArpPacket::new_checked(ethernet.payload()).ok()?).ok()?;
            let ArpRepr::EthernetIpv4 { operation, source_hardware_addr, source_protocol_addr, .. } = arp else {
                return None;
            };
            let fine = operation == ArpOperation::Request
                && source_hardware_addr == sender
                && is_host(source_protocol_addr, address);
            fine.then_some(Admitted::Arp)
        }
        EthernetProtocol::Ipv4 => {
            let packet = Ipv4Packet::new_checked(ethernet.payload()).ok()?;
            let fine = packet.next_header() == IpProtocol::Tcp
                && packet.dst_addr() == address
                && is_host(packet.src_addr(), address);
            fine.then_some(Admitted::Tcp(sender, packet.src_addr()))
        }
        _ => None,
    }
}

/// Takes "SACK permitted" (RFC 2018) out of the options of a TCP segment: the library's sums for it overflow at
/// sequence numbers from 2³¹ on, and on a wire of two nothing is lost that it would save. The segment's checksum
/// is not right any more; the library does not look at it.
pub(super) fn without_sack(segment: &mut [u8]) {
    let Ok(header) = TcpPacket::new_checked(&*segment).map(|packet| usize::from(packet.header_len())) else { return };
    let Some(mut options) = segment.get_mut(FIXED_HEADER..header) else { return };
    loop {
        let len = match options {
            [NO_OPERATION, ..] => 1,
            [kind, len, ..] if *kind != END_OF_OPTIONS && *len >= 2 => usize::from(*len),
            _ => return,
        };
        let Some((option, rest)) = options.split_at_mut_checked(len) else { return };
        if option[0] == SACK_PERMITTED {
            option.fill(NO_OPERATION);
        }
        options = rest;
    }
}

/// Whether a frame may come from this Ethernet address: one station's, and not the service's own.
fn is_station(address: EthernetAddress) -> bool {
    address.is_unicast() && address != EthernetAddress([0; 6]) && address != MAC
}

/// Whether a packet to the service may come from this address (RFC 1122, 3.2.1.3): a host's, on a network,
/// and not the service's own.
fn is_host(address: Ipv4Addr, service: Ipv4Addr) -> bool {
    let [network, ..] = address.octets();
    // 0 is "this network", 127 the loopback; from 224 on come multicast, reserved and broadcast.
    (1..224).contains(&network) && network != 127 && address != service
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::mmds::store::ADDRESS;

    #[test]
    fn sack_is_taken_out_of_the_options_and_nothing_else() {
        let segment = |options: &[u8]| {
            let mut bytes = vec![0; FIXED_HEADER];
            bytes[12] = ((FIXED_HEADER + options.len()) as u8 / 4) << 4;
            [bytes, options.to_vec(), vec![4, 2]].concat()
        };
        for (options, without) in [
            (&[2, 4, 5, 180, 4, 2, 1, 1][..], &[2, 4, 5, 180, 1, 1, 1, 1][..]),
            (&[1, 1, 4, 2], &[1, 1, 1, 1]),
            (&[3, 4, 4, 2], &[3, 4, 4, 2]),
            (&[0, 0, 4, 2], &[0, 0, 4, 2]),
            (&[8, 0, 4, 2], &[8, 0, 4, 2]),
            (&[8, 200, 4, 2], &[8, 200, 4, 2]),
            (&[], &[]),
        ] {
            let mut bytes = segment(options);
            without_sack(&mut bytes);
            assert_eq!(bytes, segment(without));
        }
        without_sack(&mut []);
        without_sack(&mut [0xff; FIXED_HEADER]);
    }

    const GUEST: EthernetAddress = EthernetAddress([6, 0, 0, 0, 0, 2]);

    #[test]
    fn host_is_what_rfc_1122_lets_a_host_be() {
        for host in ["1.0.0.1", "10.0.0.2", "172.16.0.2", "169.254.3.4", "126.255.255.254", "128.0.0.1", "223.1.1.1"] {
            assert!(is_host(host.parse().unwrap(), ADDRESS), "{host}");
        }
        for other in ["0.0.0.0", "0.1.2.3", "127.0.0.1", "127.255.255.255", "224.0.0.1", "240.0.0.1", "255.255.255.255"]
        {
            assert!(!is_host(other.parse().unwrap(), ADDRESS), "{other}");
        }
        assert!(!is_host(ADDRESS, ADDRESS));
    }

    #[test]
    fn station_is_one_and_not_the_service() {
        assert!(is_station(GUEST));
        for other in [EthernetAddress::BROADCAST, EthernetAddress([1, 0, 0, 0, 0, 2]), EthernetAddress([0; 6]), MAC] {
            assert!(!is_station(other), "{other}");
        }
    }

    /// An IPv4 packet without anything in it.
    fn packet(sender: EthernetAddress, source: [u8; 4], destination: Ipv4Addr, protocol: u8) -> Vec<u8> {
        let mut bytes = vec![0; 14 + 20];
        let mut frame = EthernetFrame::new_unchecked(&mut bytes);
        frame.set_src_addr(sender);
        frame.set_ethertype(EthernetProtocol::Ipv4);
        let packet = frame.payload_mut();
        (packet[0], packet[3], packet[9]) = (0x45, 20, protocol);
        packet[12..16].copy_from_slice(&source);
        packet[16..20].copy_from_slice(&destination.octets());
        bytes
    }

    #[test]
    fn packet_of_a_host_to_the_service_is_admitted_and_no_other() {
        let [tcp, udp] = [6, 17];
        let (host, other) = ([172, 16, 0, 2], Ipv4Addr::new(172, 16, 0, 1));
        let admitted = admit(&packet(GUEST, host, ADDRESS, tcp), ADDRESS);
        assert_eq!(admitted, Some(Admitted::Tcp(GUEST, host.into())));
        for frame in [
            packet(GUEST, host, ADDRESS, udp),
            packet(GUEST, host, other, tcp),
            packet(GUEST, [0; 4], ADDRESS, tcp),
            packet(GUEST, [127, 0, 0, 1], ADDRESS, tcp),
            packet(GUEST, [224, 0, 0, 1], ADDRESS, tcp),
            packet(GUEST, [255; 4], ADDRESS, tcp),
            packet(GUEST, ADDRESS.octets(), ADDRESS, tcp),
            packet(EthernetAddress::BROADCAST, host, ADDRESS, tcp),
            packet(MAC, host, ADDRESS, tcp),
        ] {
            assert_eq!(admit(&frame, ADDRESS), None, "{frame:?}");
        }
    }

    #[test]
    fn question_of_a_host_is_admitted_and_no_other() {
        let arp = |operation, sender: EthernetAddress, hardware, protocol: [u8; 4]| {
            let repr = ArpRepr::EthernetIpv4 {
                operation,
                source_hardware_addr: hardware,
                source_protocol_addr: protocol.into(),
                target_hardware_addr: EthernetAddress([0; 6]),
                target_protocol_addr: ADDRESS,
            };
            let mut bytes = vec![0; 14 + repr.buffer_len()];
            let mut frame = EthernetFrame::new_unchecked(&mut bytes);
            frame.set_src_addr(sender);
            frame.set_ethertype(EthernetProtocol::Arp);
            repr.emit(&mut ArpPacket::new_unchecked(frame.payload_mut()));
            admit(&bytes, ADDRESS)
        };
        let host = [172, 16, 0, 2];
        assert_eq!(arp(ArpOperation::Request, GUEST, GUEST, host), Some(Admitted::Arp));
        assert_eq!(arp(ArpOperation::Reply, GUEST, GUEST, host), None);
        assert_eq!(arp(ArpOperation::Request, GUEST, MAC, host), None);
        assert_eq!(arp(ArpOperation::Request, GUEST, GUEST, [0; 4]), None);
        assert_eq!(arp(ArpOperation::Request, GUEST, GUEST, ADDRESS.octets()), None);
    }
}
