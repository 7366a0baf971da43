//! The API's thread, and what comes from it to the main thread.

use std::io;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use event_manager::{EventOps, EventSet, Events, MutEventSubscriber};
use secretvmm_api::{Action, Call, Fault, Reply};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// Requests of API clients, one at a time.
pub struct Requests {
    calls: Receiver<Call>,
    wake: EventFd,
}

/// Wakes the main thread for a request.
pub struct Wake(EventFd);

impl MutEventSubscriber for Wake {
    fn init(&mut self, ops: &mut EventOps) {
        if let Err(err) = ops.add(Events::new(&self.0, EventSet::IN)) {
            log::error!("Requests cannot be watched: {err}");
        }
    }

    fn process(&mut self, _events: Events, _ops: &mut EventOps) {
        let _ = self.0.read();
    }
}

impl Requests {
    /// What the event loop watches.
    ///
    /// # Errors
    /// The process has no descriptor left.
    pub fn wake(&self) -> io::Result<Wake> {
        self.wake.try_clone().map(Wake)
    }

    /// Answers what has come in.
    pub fn answer(&self, mut handle: impl FnMut(Action) -> Result<Reply, Fault>) {
        for call in self.calls.try_iter() {
            // A client that is gone does not hear it.
            let _ = call.reply.send(handle(call.action));
        }
    }
}
