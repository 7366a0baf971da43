// SPDX-License-Identifier: Apache-2.0
//! The API's thread, and what comes from it to the main thread.

use std::io;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::thread::{self, JoinHandle};

use error_reporter::Report;
use event_manager::{EventOps, EventSet, Events, MutEventSubscriber};
use secretvmm_api::server::{self, BindError, Limits, Server, SocketFile, Stopper};
use secretvmm_api::{Action, Call, Fault, Reply};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::sandbox::{Sandbox, Thread};

/// Enough for HTTP, one request at a time for each of some clients.
const STACK: usize = 256 << 10;

/// Calls that are answered before the event loop looks at anything else.
const AT_ONCE: usize = 8;

/// Why there is no API.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No socket.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// No thread, or no descriptor for it.
    #[error("The API's thread could not be started")]
    Thread(#[source] io::Error),
}

/// The API: requests of its clients come in one at a time. Dropping it answers what has been asked
/// and ends the thread.
pub struct Requests {
    calls: Receiver<Call>,
    wake: EventFd,
    stopper: Stopper,
    thread: Option<JoinHandle<()>>,
    _file: SocketFile,
}

impl Requests {
    /// Serves the API on a socket at `path`, in a thread that has given up what it does not need. Signals
    /// that this thread has blocked are blocked there, too.
    ///
    /// # Errors
    /// The socket cannot be made; a message says what to do.
    pub fn serve(path: &Path, body_limit: usize, sandbox: Sandbox) -> Result<Self, Error> {
        let socket = server::bind(path)?;
        let wake = EventFd::new(EFD_NONBLOCK).map_err(Error::Thread)?;
        let (sender, calls) = channel();
        let waker = wake.try_clone().map_err(Error::Thread)?;
        let send = move |call| {
            // Dropping a call that nobody takes any more tells the client so; a full counter has woken
            // the main thread already.
            let _ = sender.send(call);
            let _ = waker.write(1);
        };
        let server = Server::new(socket.listener, Limits { body: body_limit, ..Limits::default() }, send);
        let stopper = server.stopper();
        let run = move || {
            if let Err(err) = sandbox.confine(Thread::Api) {
                return log::error!("There is no API: {}", Report::new(&err));
            }
            if let Err(err) = server.run() {
                log::error!("The API has ended: {err}");
            }
        };
        let thread = thread::Builder::new().name("api".into()).stack_size(STACK).spawn(run).map_err(Error::Thread)?;
        Ok(Self { calls, wake, stopper, thread: Some(thread), _file: socket.file })
    }

    /// What the event loop watches.
    ///
    /// # Errors
    /// The process has no descriptor left.
    pub fn wake(&self) -> io::Result<Wake> {
        self.wake.try_clone().map(Wake)
    }

    /// Answers what has come in, but no more than [`AT_ONCE`]: signals and devices have their turn in between.
    pub fn answer(&self, mut handle: impl FnMut(Action) -> Result<Reply, Fault>) {
        let mut answered = 0;
        for call in self.calls.try_iter().take(AT_ONCE) {
            // A client that is gone does not hear it.
            let _ = call.reply.send(handle(call.action));
            answered += 1;
        }
        if answered == AT_ONCE {
            // There may be more: the loop comes back here before it waits.
            let _ = self.wake.write(1);
        }
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        self.stopper.stop();
        // Whoever still asks is told that there is no VM any more.
        while self.thread.as_ref().is_some_and(|thread| !thread.is_finished()) {
            self.calls.try_iter().for_each(drop);
            thread::sleep(std::time::Duration::from_millis(1));
        }
        if let Some(thread) = self.thread.take() {
            // A panic has been reported on standard error.
            let _ = thread.join();
        }
    }
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
