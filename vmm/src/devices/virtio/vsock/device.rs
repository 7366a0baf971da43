// SPDX-License-Identifier: Apache-2.0
//! Three queues: rx for the guest, tx from the guest, and one for events, of which there are none.

use std::os::fd::RawFd;
use std::sync::Arc;

use virtio_bindings::virtio_ids::VIRTIO_ID_VSOCK;

use super::config::{self, Error};
use super::metrics::Metrics;
use super::muxer::Muxer;
use super::packet::{Packet, Space};
use crate::devices::virtio::{DeviceError, Flow, Rings, Turn, Turns, VirtioDevice};

const RX: usize = 0;
const TX: usize = 1;
/// VIRTIO_VSOCK_F_STREAM: stream sockets, and no others.
const F_STREAM: u64 = 1 << 0;

/// Sockets between the guest and the host's processes.
pub struct Vsock {
    /// The guest's context id.
    config: [u8; 8],
    pub(super) muxer: Muxer,
    /// In each direction.
    pub(super) turns: Turns,
}

impl Vsock {
    /// Listens at `config.uds_path`, for this user only. Clients wait until the guest has a driver.
    ///
    /// # Errors
    /// The context id is reserved, or the path cannot be listened at.
    pub fn open(config: &secretvmm_api::Vsock) -> Result<Self, Error> {
        config::check_cid(config.guest_cid)?;
        let muxer = Muxer::new(config.guest_cid, &config.uds_path)?;
        Ok(Self {
            config: u64::from(config.guest_cid).to_le_bytes(),
            muxer,
            turns: Turns::new().map_err(Error::Watch)?,
        })
    }

    /// What the device counts, which anybody may read at any time.
    pub fn metrics(&self) -> Arc<Metrics> {
        self.muxer.metrics().clone()
    }

    /// Takes the guest's packets and gives it what there is for it, each for one turn.
    fn exchange(&mut self, rings: &mut Rings) -> Result<(), DeviceError> {
        let (mut taking, mut giving) = (self.turns.begin(), self.turns.begin());
        loop {
            let stuck = self.receive(rings, &mut taking)?;
            self.send(rings, &mut giving)?;
            // Packets may have waited for a place for their answers.
            if !stuck || !self.muxer.has_room() {
                return Ok(());
            }
        }
    }

    /// Empties the tx queue, as far as it can; true if answers would have no place.
    fn receive(&mut self, rings: &mut Rings, turn: &mut Turn) -> Result<bool, DeviceError> {
        let memory = rings.memory;
        let mut stuck = false;
        rings.serve(TX, turn, |chain, _| {
            if !self.muxer.has_room() {
                stuck = true;
                return Ok(Flow::Stop);
            }
            match Packet::read(chain, memory) {
                Some(packet) => self.muxer.receive(&packet),
                None => self.muxer.metrics().tx_queue_event_fails.inc(),
            }
            Ok(Flow::Done(0))
        })?;
        Ok(stuck)
    }

    /// Fills rx buffers while there are any and there is something for the guest.
    fn send(&mut self, rings: &mut Rings, turn: &mut Turn) -> Result<(), DeviceError> {
        if !self.muxer.has_pending() {
            return Ok(());
        }
        let memory = rings.memory;
        rings.serve(RX, turn, |chain, _| {
            let Some(space) = Space::new(chain, memory) else {
                self.muxer.metrics().rx_queue_event_fails.inc();
                return Ok(Flow::Done(0));
            };
            Ok(self.muxer.send(&space).map_or(Flow::Stop, Flow::Done))
        })
    }
}

impl VirtioDevice for Vsock {
    const TYPE: u32 = VIRTIO_ID_VSOCK;
    const QUEUES: &'static [u16] = &[256, 256, 256];

    fn features(&self) -> u64 {
        F_STREAM
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn activate(&mut self, _features: u64, rings: &mut Rings) -> Result<(), DeviceError> {
        // Clients that have waited for a driver.
        self.muxer.call_main_thread();
        self.exchange(rings).inspect_err(|_| self.muxer.metrics().activate_fails.inc())
    }

    fn notify(&mut self, index: usize, rings: &mut Rings) -> Result<(), DeviceError> {
        match index {
            RX => self.muxer.metrics().rx_queue_event_count.inc(),
            TX => self.muxer.metrics().tx_queue_event_count.inc(),
            _ => return Ok(()),
        }
        self.exchange(rings)
    }

    fn descriptors(&self) -> Vec<RawFd> {
        vec![self.turns.descriptor(), self.muxer.descriptor()]
    }

    fn host_event(&mut self, rings: &mut Rings) -> Result<(), DeviceError> {
        self.muxer.poll(&mut self.turns.begin());
        self.exchange(rings)
    }

    fn reset(&mut self) {
        self.muxer.reset();
    }
}
