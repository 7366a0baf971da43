// SPDX-License-Identifier: Apache-2.0
//! HTTP on a unix socket: one thread, one [`Call`] a request, and clients that cannot keep others out.
//!
//! A connection waits for a request, then receives it, then is served. A client that takes too long
//! over the first two is cut off; when all places are taken, so is the one that has taken longest,
//! to make room for the next. A request that has reached the VMM is always answered first.

mod connection;
mod socket;

use std::io;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::runtime;
use tokio::sync::Notify;
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::action::Call;
use connection::{Connections, Service};

pub use socket::{BindError, BoundSocket, SocketFile, bind};

/// How long to wait when a connection cannot be accepted, most likely for want of descriptors.
const RETRY: Duration = Duration::from_millis(100);
/// How long requests that have reached the VMM may take after [`Stopper::stop`].
const FAREWELL: Duration = Duration::from_secs(2);

/// What clients may take.
#[derive(Debug, Clone)]
pub struct Limits {
    /// The largest body in bytes. Firecracker's `--http-api-max-payload-size`.
    pub body: usize,
    /// Connections at a time.
    pub connections: usize,
    /// How long a connection may wait for a request, and a request's head may take.
    pub idle: Duration,
    /// How long a request's body may take.
    pub receive: Duration,
    /// How long a connection has its place to itself when others want it, except while it is served.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body: 51_200,
            connections: 64,
            idle: Duration::from_secs(300),
            receive: Duration::from_secs(10),
            grace: Duration::from_millis(250),
        }
    }
}

/// An HTTP server that turns requests into [`Call`]s.
#[derive(Debug)]
pub struct Server<F> {
    listener: StdUnixListener,
    limits: Limits,
    send: F,
    stop: Arc<Notify>,
}

/// Stops a [`Server`] from another thread.
#[derive(Debug, Clone)]
pub struct Stopper(Arc<Notify>);

impl Stopper {
    /// Makes [`Server::run`] return once the VMM has answered what it was asked, or soon if it does not.
    pub fn stop(&self) {
        self.0.notify_one();
    }
}

impl<F: Fn(Call) + 'static> Server<F> {
    /// A server on a bound socket (see [`bind`]), which hands requests to the VMM with `send`. That must
    /// not block; a call that it drops is answered with status 503.
    pub fn new(listener: StdUnixListener, limits: Limits, send: F) -> Self {
        Self { listener, limits, send, stop: Arc::default() }
    }

    /// What stops this server.
    pub fn stopper(&self) -> Stopper {
        Stopper(Arc::clone(&self.stop))
    }

    /// Serves clients in this thread until stopped. Only root and the user that this process runs as
    /// are clients; others are hung up on.
    ///
    /// # Errors
    /// The runtime cannot be made or the socket not be polled. Nothing a client does is an error.
    pub fn run(self) -> io::Result<()> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .max_io_events_per_tick(32)
            .max_blocking_threads(1)
            .build()?;
        LocalSet::new().block_on(&runtime, self.serve())
    }

    async fn serve(self) -> io::Result<()> {
        self.listener.set_nonblocking(true)?;
        let listener = UnixListener::from_std(self.listener)?;
        let own_uid = UnixStream::pair()?.0.peer_cred()?.uid();
        let grace = self.limits.grace;
        let mut connections = Connections::new(self.limits.connections);
        let service = Rc::new(Service { limits: self.limits, send: self.send });
        // A connection for which there was no place yet.
        let mut next: Option<UnixStream> = None;
        loop {
            if !connections.full()
                && let Some(stream) = next.take()
            {
                connections.open(stream, &service);
            }
            let cut_off = connections.longest().map_or_else(Instant::now, |since| since + grace);
            tokio::select! {
                () = self.stop.notified() => break,
                () = connections.closed(), if !connections.is_empty() => {}
                () = sleep_until(cut_off), if next.is_some() && connections.longest().is_some() => connections.cut_longest(),
                accepted = listener.accept(), if next.is_none() => match accepted {
                    Ok((stream, _)) => next = Some(stream).filter(|stream| may_connect(stream, own_uid)),
                    Err(err) => {
                        log::warn!("A connection to the API socket cannot be accepted: {err}");
                        connections.cut_longest();
                        sleep(RETRY).await;
                    }
                },
            }
        }
        // No new connections while the last ones end.
        drop((listener, next));
        connections.finish();
        if timeout(FAREWELL, connections.all_closed()).await.is_err() {
            log::warn!("The VMM left requests unanswered");
        }
        Ok(())
    }
}

/// Whether a client runs as root or as this process does.
fn may_connect(stream: &UnixStream, own_uid: u32) -> bool {
    match stream.peer_cred().map(|peer| peer.uid()) {
        Ok(uid) if uid == 0 || uid == own_uid => true,
        Ok(uid) => {
            log::warn!("User {uid} may not use the API socket");
            false
        }
        Err(err) => {
            log::warn!("A client of the API socket cannot be identified: {err}");
            false
        }
    }
}
