// SPDX-License-Identifier: Apache-2.0
//! The way of frames between the guest and the metadata service, past the TAP.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use vmm_sys_util::timerfd::TimerFd;

use super::HEADER_SIZE;
use super::tap::Pieces;
use crate::mmds::{HEAD, Mmds, Stack};

/// The timer's shortest time: 0 would disarm it.
const SOON: Duration = Duration::from_millis(1);

/// The metadata service as one interface reaches it.
pub(super) struct Detour {
    iface_id: String,
    mmds: Arc<Mutex<Mmds>>,
    /// From the driver's start on, if the service is for this interface.
    stack: Option<Stack>,
    timer: TimerFd,
    armed: Option<Instant>,
}

impl Detour {
    pub(super) fn new(iface_id: &str, mmds: Arc<Mutex<Mmds>>) -> io::Result<Self> {
        Ok(Self { iface_id: iface_id.to_owned(), mmds, stack: None, timer: TimerFd::new()?, armed: None })
    }

    /// Looks whether the service is for this interface: it was configured before the VM started.
    pub(super) fn activate(&mut self) {
        let address = self.mmds.lock().unwrap_or_else(PoisonError::into_inner).address(&self.iface_id);
        self.stack = address.map(|address| Stack::new(address, self.mmds.clone()));
    }

    /// Ends all connections.
    pub(super) fn reset(&mut self) {
        self.stack = None;
    }

    /// Readable when [`Self::poll`] has something to do.
    pub(super) fn descriptor(&self) -> RawFd {
        self.timer.as_raw_fd()
    }

    /// Takes the guest's frame with its header if it is for the service.
    pub(super) fn take(&mut self, frame: &Pieces) -> bool {
        let Some(stack) = &mut self.stack else { return false };
        let mut head = [0; HEAD];
        let len = frame.copy_out(HEADER_SIZE, &mut head);
        let wanted = stack.wants(&head[..len]);
        if wanted {
            stack.take(frame.len() - HEADER_SIZE, |bytes| {
                frame.copy_out(HEADER_SIZE, bytes);
                // Judged by what was seen first, whatever the guest has done to it since.
                bytes[..len].copy_from_slice(&head[..len]);
            });
        }
        wanted
    }

    /// Whether a frame waits for the guest.
    pub(super) fn has_frame(&self) -> bool {
        self.stack.as_ref().is_some_and(|stack| stack.next().is_some())
    }

    /// Puts the next frame with a header into the guest's buffers: its length, if it fits.
    pub(super) fn deliver(&mut self, buffers: &Pieces) -> Option<usize> {
        let stack = self.stack.as_mut()?;
        let frame = stack.next()?;
        let fits =
            buffers.copy_in(0, &[0; HEADER_SIZE]) == HEADER_SIZE && buffers.copy_in(HEADER_SIZE, frame) == frame.len();
        let len = HEADER_SIZE + frame.len();
        stack.sent();
        fits.then_some(len)
    }

    /// Does what does not wait for a frame.
    pub(super) fn poll(&mut self) {
        if let Some(stack) = &mut self.stack {
            stack.poll();
        }
    }

    /// Sets the timer for the next call of [`Self::poll`].
    pub(super) fn arm(&mut self) {
        let Some(wait) = self.stack.as_mut().and_then(Stack::deadline) else { return };
        let now = Instant::now();
        let wait = wait.max(SOON);
        // A timer that fires earlier is set again then.
        if self.armed.is_some_and(|armed| now < armed && armed <= now + wait) {
            return;
        }
        self.armed = Some(now + wait);
        if let Err(err) = self.timer.reset(wait, None) {
            log::error!("The metadata service's timer cannot be set: {err}");
        }
    }
}
