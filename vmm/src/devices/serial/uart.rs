// SPDX-License-Identifier: Apache-2.0
//! The register file: vm-superio's, and what a 16550A has besides.

use std::io;
use std::sync::Arc;

use vm_superio::Trigger;
use vm_superio::serial::Serial;
use vmm_sys_util::eventfd::EventFd;

use super::Room;

pub(super) const DATA: u16 = 0;
pub(super) const IER: u16 = 1;
/// Read: IIR. Written: FCR.
pub(super) const IIR: u16 = 2;
pub(super) const LCR: u16 = 3;
pub(super) const LSR: u16 = 5;
pub(super) const LCR_DLAB: u8 = 1 << 7;
pub(super) const IER_RECEIVE: u8 = 1 << 0;
const IER_TRANSMIT: u8 = 1 << 1;
/// All interrupts on: what Linux writes while it finds out whether there is a UART at all. It
/// empties the receiver after that.
pub(super) const IER_PROBE: u8 = 0xf;
pub(super) const FCR_ENABLE: u8 = 1 << 0;
pub(super) const FCR_CLEAR_RECEIVER: u8 = 1 << 1;
/// What IIR says: no interrupt, or the reason of the most urgent one, and whether the FIFOs are on.
pub(super) const IIR_NONE: u8 = 1;
pub(super) const IIR_TRANSMIT: u8 = 0b010;
pub(super) const IIR_RECEIVE: u8 = 0b100;
pub(super) const IIR_FIFOS: u8 = 0b1100_0000;
const LSR_DATA_READY: u8 = 1 << 0;

/// The line to the I/O APIC, an irqfd.
struct Interrupt(EventFd);

impl Trigger for Interrupt {
    type E = io::Error;

    fn trigger(&self) -> io::Result<()> {
        self.0.write(1)
    }
}

/// COM1's registers.
pub(super) struct Uart {
    registers: Serial<Interrupt, Arc<Room>, Vec<u8>>,
    line_control: u8,
    interrupt_enable: u8,
    fifos: bool,
    /// The transmitter's interrupt has not been read, as the receiver's is more urgent.
    transmit_pending: bool,
}

impl Uart {
    pub(super) fn new(interrupt: EventFd, room: Arc<Room>) -> Self {
        let registers = Serial::with_events(Interrupt(interrupt), room, Vec::new());
        Self { registers, line_control: 0, interrupt_enable: 0, fifos: false, transmit_pending: false }
    }

    pub(super) fn read(&mut self, offset: u16) -> u8 {
        match offset {
            IIR => self.interrupt_identification(),
            _ => self.registers.read(offset as u8),
        }
    }

    pub(super) fn write(&mut self, offset: u16, value: u8) {
        match offset {
            LCR => self.line_control = value,
            IER if !self.divisor_latch() => self.interrupt_enable = value,
            IIR => return self.control_fifos(value),
            _ => {}
        }
        if let Err(err) = self.registers.write(offset as u8, value) {
            log::debug!("Serial register {offset} could not be written: {err}");
        }
    }

    /// Writes the transmit register; what comes out of it.
    pub(super) fn send(&mut self, value: u8) -> Vec<u8> {
        self.write(DATA, value);
        std::mem::take(self.registers.writer_mut())
    }

    /// Puts input into the FIFO, as much as there is room for and the driver wants.
    pub(super) fn receive(&mut self, input: &[u8]) -> usize {
        if self.is_receiving() { self.registers.enqueue_raw_bytes(input).unwrap_or(0) } else { 0 }
    }

    pub(super) fn can_receive(&self) -> bool {
        self.is_receiving() && self.registers.fifo_capacity() > 0
    }

    /// The driver has receive interrupts on, and means it.
    fn is_receiving(&self) -> bool {
        self.interrupt_enable & IER_RECEIVE != 0 && self.interrupt_enable != IER_PROBE
    }

    fn divisor_latch(&self) -> bool {
        self.line_control & LCR_DLAB != 0
    }

    /// IIR. vm-superio's forgets the receiver's interrupt when a first byte is read, although others are there,
    /// and says two reasons at once.
    fn interrupt_identification(&mut self) -> u8 {
        let said = self.registers.read(IIR as u8);
        let transmit = said & (IIR_TRANSMIT | IIR_NONE) == IIR_TRANSMIT || self.transmit_pending;
        let transmit = transmit && self.interrupt_enable & IER_TRANSMIT != 0;
        let receive = self.interrupt_enable & IER_RECEIVE != 0 && self.has_data();
        self.transmit_pending = transmit && receive;
        let reason = match (receive, transmit) {
            (true, _) => IIR_RECEIVE,
            (false, true) => IIR_TRANSMIT,
            (false, false) => IIR_NONE,
        };
        reason | if self.fifos { IIR_FIFOS } else { 0 }
    }

    /// FCR, which vm-superio has not got. Turning the FIFOs on or off empties them.
    fn control_fifos(&mut self, value: u8) {
        let fifos = value & FCR_ENABLE != 0;
        if fifos != self.fifos || (fifos && value & FCR_CLEAR_RECEIVER != 0) {
            self.clear_receiver();
        }
        self.fifos = fifos;
    }

    fn clear_receiver(&mut self) {
        let _ = self.registers.write(LCR as u8, self.line_control & !LCR_DLAB);
        while self.has_data() {
            self.registers.read(DATA as u8);
        }
        let _ = self.registers.write(LCR as u8, self.line_control);
    }

    fn has_data(&mut self) -> bool {
        self.registers.read(LSR as u8) & LSR_DATA_READY != 0
    }
}
