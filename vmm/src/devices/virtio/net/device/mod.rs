// SPDX-License-Identifier: Apache-2.0
//! Two queues between a guest and a TAP.

use std::io::ErrorKind;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use secretvmm_api::{MacAddr, NetworkInterface, NetworkInterfaceUpdate};
use virtio_bindings::virtio_ids::VIRTIO_ID_NET;
use virtio_bindings::virtio_net::{
    VIRTIO_NET_F_CSUM, VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_GUEST_TSO6,
    VIRTIO_NET_F_GUEST_UFO, VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_HOST_TSO6, VIRTIO_NET_F_HOST_UFO, VIRTIO_NET_F_MAC,
    VIRTIO_NET_F_MRG_RXBUF, VIRTIO_NET_F_MTU,
};

use super::HEADER_SIZE;
use super::buffers::{Buffers, Gathered, Need};
use super::detour::Detour;
use super::metrics::Metrics;
use super::offload::Offload;
use super::tap::{self, Error, Pieces, Tap};
use crate::devices::RateLimiter;
use crate::devices::virtio::{Chain, DeviceError, Flow, Rings, Turns, VirtioDevice};
use crate::mmds::Mmds;

/// The queues (5.1.2).
const RX: usize = 0;
const TX: usize = 1;
/// Ethernet: two addresses and a type.
const ETHERNET_HEADER: usize = 14;
/// The longest frame with header, which segmentation offload makes (5.1.6.3.1).
const FRAME_MAX: usize = 65562;
/// The MTU of a link that says none, and room for a VLAN tag.
const MTU_DEFAULT: u16 = 1500;
const VLAN_TAG: usize = 4;

/// What the host's network stack does for the guest, and what it may leave to the guest.
const OFFLOADS: u64 = 1 << VIRTIO_NET_F_CSUM
    | 1 << VIRTIO_NET_F_GUEST_CSUM
    | 1 << VIRTIO_NET_F_HOST_TSO4
    | 1 << VIRTIO_NET_F_HOST_TSO6
    | 1 << VIRTIO_NET_F_HOST_UFO
    | GUEST_GSO;
/// What makes received frames longer than the MTU.
const GUEST_GSO: u64 = 1 << VIRTIO_NET_F_GUEST_TSO4 | 1 << VIRTIO_NET_F_GUEST_TSO6 | 1 << VIRTIO_NET_F_GUEST_UFO;

/// A network interface of the guest.
pub struct Net {
    id: String,
    tap: Tap,
    detour: Option<Detour>,
    guest_mac: Option<MacAddr>,
    mtu: Option<u16>,
    config: [u8; 12],
    rx_limiter: RateLimiter,
    tx_limiter: RateLimiter,
    buffers: Buffers,
    need: Need,
    offload: Offload,
    /// A frame of this length lies in the guest's buffers, and the driver may not have it yet.
    held_back: Option<usize>,
    /// The TAP was removed, which was logged.
    tap_gone: bool,
    /// In each direction.
    turns: Turns,
    metrics: Arc<Metrics>,
}

/// What the host has for the guest.
enum Next {
    /// A frame of this length with header, in the guest's buffers.
    Frame(usize),
    /// One that is lost; others may be behind it.
    Lost,
    /// Nothing now, or no place for it.
    Nothing,
}

impl Net {
    /// Takes the TAP for this VM.
    ///
    /// # Errors
    /// It cannot be had; the error says why.
    pub fn open(interface: &NetworkInterface) -> Result<Self, Error> {
        Self::with_tap(interface, Tap::open(&interface.host_dev_name)?)
    }

    /// Says what is odd about `interface`, which it was opened for.
    pub fn warn_of_mtu(&self, interface: &NetworkInterface) {
        let (Some(mtu), Ok(tap_mtu)) = (self.mtu, tap::mtu(&interface.host_dev_name)) else { return };
        if u32::from(mtu) > tap_mtu {
            log::warn!(
                "Network interface {}: its mtu {mtu} is above the {tap_mtu} of TAP {}, which drops what is longer; \
                 raise that (ip link set {1} mtu {mtu}) or lower mtu",
                self.id,
                interface.host_dev_name
            );
        }
    }

    /// Gives frames to the metadata service a way past the TAP, if the service is configured for this
    /// interface by the time the driver starts.
    ///
    /// # Errors
    /// The host gives no timer.
    pub fn with_mmds(mut self, mmds: Arc<Mutex<Mmds>>) -> Result<Self, Error> {
        let detour = Detour::new(&self.id, mmds);
        self.detour = Some(detour.map_err(|source| Error::Descriptor { id: self.id.clone(), source })?);
        Ok(self)
    }

    fn with_tap(interface: &NetworkInterface, tap: Tap) -> Result<Self, Error> {
        let id = &interface.iface_id;
        let descriptor = |source| Error::Descriptor { id: id.clone(), source };
        let limiter = |limits: &Option<_>| RateLimiter::new(limits.as_ref()).map_err(descriptor);
        let mut config = [0; 12];
        // struct virtio_net_config (5.1.4): mac, status, max_virtqueue_pairs, mtu.
        config[..6].copy_from_slice(&interface.guest_mac.unwrap_or(MacAddr([0; 6])).0);
        config[10..].copy_from_slice(&interface.mtu.unwrap_or(0).to_le_bytes());
        Ok(Self {
            tap,
            detour: None,
            id: id.clone(),
            guest_mac: interface.guest_mac,
            mtu: interface.mtu,
            config,
            rx_limiter: limiter(&interface.rx_rate_limiter)?,
            tx_limiter: limiter(&interface.tx_rate_limiter)?,
            buffers: Buffers::default(),
            need: Need { frame: FRAME_MAX, merge: false },
            offload: Offload::default(),
            held_back: None,
            tap_gone: false,
            turns: Turns::new().map_err(descriptor)?,
            metrics: Arc::default(),
        })
    }

    /// Other limits, while the VM runs or before.
    pub fn update(&mut self, update: &NetworkInterfaceUpdate) {
        for (limiter, limits) in
            [(&mut self.rx_limiter, update.rx_rate_limiter), (&mut self.tx_limiter, update.tx_rate_limiter)]
        {
            if let Some(limits) = limits {
                limiter.update(&limits);
            }
        }
    }

    /// What it counts.
    pub fn metrics(&self) -> Arc<Metrics> {
        self.metrics.clone()
    }

    /// Moves frames both ways.
    fn move_frames(&mut self, rings: &mut Rings) -> Result<(), DeviceError> {
        self.transmit(rings)?;
        self.receive(rings)?;
        self.arm();
        Ok(())
    }

    fn arm(&mut self) {
        if let Some(detour) = &mut self.detour {
            detour.arm();
        }
    }

    /// Moves frames from the TAP to the guest for one turn, as long as there are any and buffers for them.
    fn receive(&mut self, rings: &mut Rings) -> Result<(), DeviceError> {
        if let Some(wait) = self.offload.apply(&self.tap, Instant::now()) {
            // Frames might come as this driver cannot take them.
            self.rx_limiter.pause(wait);
            return Ok(());
        }
        let mut pieces = Pieces::new(rings.memory);
        let mut turn = self.turns.begin();
        while !turn.is_over() {
            if self.rx_limiter.is_blocked() {
                return Ok(());
            }
            let len = match self.next_frame(rings, &mut pieces)? {
                Next::Frame(len) => len,
                Next::Lost => continue,
                Next::Nothing => return Ok(()),
            };
            let bytes = len - HEADER_SIZE;
            if !self.rx_limiter.consume(bytes as u64) {
                self.metrics.rx_rate_limiter_throttled.inc();
                self.held_back = Some(len);
                return Ok(());
            }
            self.buffers.fill(rings, RX, len, &pieces)?;
            self.metrics.rx_packets_count.inc();
            self.metrics.rx_bytes_count.add(bytes as u64);
        }
        Ok(())
    }

    /// Puts a frame into the guest's next buffers.
    fn next_frame(&mut self, rings: &mut Rings, pieces: &mut Pieces) -> Result<Next, DeviceError> {
        if let Some(len) = self.held_back.take() {
            self.buffers.pieces(self.need, pieces);
            return Ok(Next::Frame(len));
        }
        let metrics = &self.metrics;
        match self.buffers.gather(rings, RX, self.need)? {
            Gathered::Enough => {}
            Gathered::TooLittle => {
                // The driver notifies when it has put more into the queue.
                metrics.no_rx_avail_buffer.inc();
                return Ok(Next::Nothing);
            }
            Gathered::Useless => {
                metrics.rx_fails.inc();
                return Ok(Next::Lost);
            }
        }
        self.buffers.pieces(self.need, pieces);
        if let Some(detour) = self.detour.as_mut().filter(|detour| detour.has_frame()) {
            return Ok(detour.deliver(pieces).map_or(Next::Lost, Next::Frame));
        }
        match self.tap.read(pieces) {
            Ok(Some(len)) if len > HEADER_SIZE => {
                metrics.rx_count.inc();
                Ok(Next::Frame(len))
            }
            // Longer than the guest's buffers, or no frame.
            Ok(_) => {
                metrics.rx_fails.inc();
                Ok(Next::Lost)
            }
            Err(err) if err.kind() == ErrorKind::WouldBlock => Ok(Next::Nothing),
            Err(err) => {
                // The TAP is down or gone. It says when it is there again.
                metrics.tap_read_fails.inc();
                self.tap_failed(&err);
                Ok(Next::Nothing)
            }
        }
    }

    /// Moves frames from the guest to the TAP for one turn.
    fn transmit(&mut self, rings: &mut Rings) -> Result<(), DeviceError> {
        if self.tx_limiter.is_blocked() {
            return Ok(());
        }
        let mut pieces = Pieces::new(rings.memory);
        rings.serve(TX, &mut self.turns.begin(), |chain, _| Ok(self.send(chain, &mut pieces)))
    }

    fn send(&mut self, chain: Chain, pieces: &mut Pieces) -> Flow {
        let metrics = &self.metrics;
        if !readable(chain, pieces) || pieces.len() < HEADER_SIZE + ETHERNET_HEADER {
            metrics.tx_malformed_frames.inc();
            return Flow::Done(0);
        }
        let bytes = pieces.len() - HEADER_SIZE;
        if !self.tx_limiter.consume(bytes as u64) {
            metrics.tx_rate_limiter_throttled.inc();
            return Flow::Stop;
        }
        if self.detour.as_mut().is_some_and(|detour| detour.take(pieces)) {
            return Flow::Done(0);
        }
        if let Some(mac) = self.guest_mac {
            let mut source = [0; 6];
            pieces.copy_out(HEADER_SIZE + 6, &mut source);
            if source != mac.0 {
                metrics.tx_spoofed_mac_count.inc();
            }
        }
        match self.tap.write(pieces) {
            Ok(_) => {
                metrics.tx_count.inc();
                metrics.tx_packets_count.inc();
                metrics.tx_bytes_count.add(bytes as u64);
            }
            Err(err) if err.kind() == ErrorKind::WouldBlock => {
                // The TAP says when it takes frames again.
                self.tx_limiter.give_back(1, bytes as u64);
                return Flow::Stop;
            }
            // The TAP is down, or the host finds the frame wrong: it is lost, as on any network.
            Err(err) => {
                metrics.tap_write_fails.inc();
                metrics.tx_fails.inc();
                self.tap_failed(&err);
            }
        }
        Flow::Done(0)
    }

    /// A TAP that is down comes back; one that was removed does not.
    fn tap_failed(&mut self, err: &std::io::Error) {
        if err.raw_os_error() == Some(libc::EBADFD) && !std::mem::replace(&mut self.tap_gone, true) {
            log::warn!(
                "Network interface {}: its TAP was removed; the guest has no network until the VM is started anew",
                self.id
            );
        }
    }

    /// What the driver makes ready for a frame, having taken `features` (5.1.6.3.1).
    fn need(&self, features: u64) -> Need {
        let mtu = self.mtu.unwrap_or(MTU_DEFAULT).max(MTU_DEFAULT);
        let frame = match features & GUEST_GSO {
            0 => HEADER_SIZE + ETHERNET_HEADER + VLAN_TAG + usize::from(mtu),
            _ => FRAME_MAX,
        };
        Need { frame: frame.min(FRAME_MAX), merge: features & 1 << VIRTIO_NET_F_MRG_RXBUF != 0 }
    }
}

/// Gathers a frame to send; false if the chain is none.
fn readable(chain: Chain, pieces: &mut Pieces) -> bool {
    pieces.clear();
    for descriptor in chain {
        let len = descriptor.len() as usize;
        if descriptor.is_write_only() || len > FRAME_MAX - pieces.len() || !pieces.push(descriptor.addr(), len) {
            return false;
        }
    }
    true
}

impl VirtioDevice for Net {
    const TYPE: u32 = VIRTIO_ID_NET;
    const QUEUES: &'static [u16] = &[256, 256];

    fn features(&self) -> u64 {
        OFFLOADS
            | 1 << VIRTIO_NET_F_MRG_RXBUF
            | u64::from(self.guest_mac.is_some()) << VIRTIO_NET_F_MAC
            | u64::from(self.mtu.is_some()) << VIRTIO_NET_F_MTU
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn activate(&mut self, features: u64, rings: &mut Rings) -> Result<(), DeviceError> {
        self.need = self.need(features);
        self.offload.want(features);
        if let Some(detour) = &mut self.detour {
            detour.activate();
        }
        self.move_frames(rings)
    }

    fn notify(&mut self, index: usize, rings: &mut Rings) -> Result<(), DeviceError> {
        match index {
            RX => {
                self.metrics.rx_queue_event_count.inc();
                self.receive(rings)
            }
            TX => {
                self.metrics.tx_queue_event_count.inc();
                self.transmit(rings)?;
                if self.detour.as_ref().is_some_and(Detour::has_frame) {
                    self.receive(rings)?;
                }
                self.arm();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn descriptors(&self) -> Vec<RawFd> {
        let own =
            [self.tap.as_raw_fd(), self.turns.descriptor(), self.rx_limiter.descriptor(), self.tx_limiter.descriptor()];
        own.into_iter().chain(self.detour.as_ref().map(Detour::descriptor)).collect()
    }

    fn host_event(&mut self, rings: &mut Rings) -> Result<(), DeviceError> {
        self.metrics.rx_tap_event_count.inc();
        if let Some(detour) = &mut self.detour {
            detour.poll();
        }
        self.move_frames(rings)
    }

    fn reset(&mut self) {
        self.buffers.clear();
        self.held_back = None;
        if let Some(detour) = &mut self.detour {
            detour.reset();
        }
    }
}

#[cfg(test)]
mod tests;
