// SPDX-License-Identifier: Apache-2.0
//! A device's descriptors in the main thread's event loop.

use std::os::fd::RawFd;
use std::sync::Arc;

use event_manager::{EventOps, EventSet, Events, MutEventSubscriber};

/// The side of a device that looks to the host.
pub trait HostSide: Send + Sync {
    /// What to watch.
    fn descriptors(&self) -> Vec<RawFd>;
    /// One of them is ready.
    fn host_event(&self);
    /// No event reaches guest memory until [`Self::resume`].
    fn pause(&self);
    /// Goes on, and looks at what has happened meanwhile.
    fn resume(&self);
}

/// Hands events on to a device.
pub struct HostEvents(pub Arc<dyn HostSide>);

impl MutEventSubscriber for HostEvents {
    fn init(&mut self, ops: &mut EventOps) {
        for descriptor in self.0.descriptors() {
            let set = EventSet::IN | EventSet::OUT | EventSet::EDGE_TRIGGERED;
            if let Err(err) = ops.add(Events::new_raw(descriptor, set)) {
                log::error!("A device's descriptor cannot be watched: {err}");
            }
        }
    }

    fn process(&mut self, _events: Events, _ops: &mut EventOps) {
        self.0.host_event();
    }
}
