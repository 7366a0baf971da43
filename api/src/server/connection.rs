// SPDX-License-Identifier: Apache-2.0
//! One connection, and the places that all of them share.

use std::cell::Cell;
use std::convert::Infallible;
use std::rc::Rc;

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::UnixStream;
use tokio::sync::{Notify, oneshot};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, timeout};

use super::Limits;
use crate::action::{Call, Fault, Reply};
use crate::request::parse;
use crate::resources::FaultMessage;

/// The largest request head, and what hyper reads at a time, in bytes.
const BUFFER: usize = 16 << 10;

/// What all connections share.
pub(super) struct Service<F> {
    pub(super) limits: Limits,
    pub(super) send: F,
}

/// Where a connection stands.
struct Progress {
    /// Since when it has waited for the client; None while it is served.
    waiting: Cell<Option<Instant>>,
    /// The connection shall end after the current request.
    finish: Notify,
}

/// The open connections, of which there are places for so many.
pub(super) struct Connections {
    tasks: JoinSet<()>,
    places: Vec<(Rc<Progress>, AbortHandle)>,
    limit: usize,
}

impl Connections {
    pub(super) fn new(limit: usize) -> Self {
        Self { tasks: JoinSet::new(), places: Vec::new(), limit: limit.max(1) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    pub(super) fn full(&self) -> bool {
        self.tasks.len() >= self.limit
    }

    /// Serves a client.
    pub(super) fn open<F>(&mut self, stream: UnixStream, service: &Rc<Service<F>>)
    where
        F: Fn(Call) + 'static,
    {
        let progress = Rc::new(Progress { waiting: Cell::new(Some(Instant::now())), finish: Notify::new() });
        let task = self.tasks.spawn_local(serve(stream, Rc::clone(&progress), Rc::clone(service)));
        self.places.push((progress, task));
    }

    /// Waits until one connection has ended. To be called when there is one.
    pub(super) async fn closed(&mut self) {
        if let Some(Err(err)) = self.tasks.join_next().await
            && !err.is_cancelled()
        {
            log::error!("A connection to the API socket failed: {err}");
        }
        self.places.retain(|(_, task)| !task.is_finished());
    }

    /// Waits until all connections have ended.
    pub(super) async fn all_closed(&mut self) {
        while !self.is_empty() {
            self.closed().await;
        }
    }

    /// Since when the connection that has waited longest for its client has done so.
    pub(super) fn longest(&self) -> Option<Instant> {
        self.places.iter().filter_map(|(progress, _)| progress.waiting.get()).min()
    }

    /// Ends the connection that has waited longest for its client, if one does.
    pub(super) fn cut_longest(&mut self) {
        let longest = self.places.iter().filter(|(progress, _)| progress.waiting.get().is_some());
        if let Some((progress, task)) = longest.min_by_key(|(progress, _)| progress.waiting.get()) {
            // So that it is not chosen again before its task is gone.
            progress.waiting.set(None);
            task.abort();
        }
    }

    /// Ends all connections, each after the request that is being served.
    pub(super) fn finish(&self) {
        for (progress, _) in &self.places {
            progress.finish.notify_one();
        }
    }
}

/// Serves a client until one of both has enough.
async fn serve<F>(stream: UnixStream, progress: Rc<Progress>, service: Rc<Service<F>>)
where
    F: Fn(Call),
{
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(service.limits.idle)
        .max_buf_size(BUFFER)
        .auto_date_header(false)
        // A client that says that it has nothing more to ask wants its answers all the same.
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service_fn(|request| service.respond(request, &progress)));
    let mut connection = std::pin::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = progress.finish.notified() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(err) = result {
        log::debug!("A connection to the API socket ended: {err}");
    }
}

/// What the client gets.
enum Outcome {
    /// What the VMM answered.
    Answer { result: Result<Reply, Fault>, deprecated: bool },
    /// The request was not received; the connection cannot go on.
    NotReceived(StatusCode, String),
    /// There is no VMM any more.
    NoVmm,
}

impl<F: Fn(Call)> Service<F> {
    async fn respond(
        &self,
        request: Request<Incoming>,
        progress: &Progress,
    ) -> Result<Response<Full<Bytes>>, Infallible> {
        progress.waiting.set(Some(Instant::now()));
        let (head, body) = request.into_parts();
        let outcome = match self.receive(body).await {
            Ok(body) => {
                progress.waiting.set(None);
                let outcome = self.call(&head, &body).await;
                progress.waiting.set(Some(Instant::now()));
                outcome
            }
            Err(outcome) => outcome,
        };
        let response = outcome.into_response();
        log::debug!("{} {}: {}", head.method, head.uri.path(), response.status());
        Ok(response)
    }

    async fn receive(&self, body: Incoming) -> Result<Bytes, Outcome> {
        let Limits { body: limit, receive, .. } = self.limits;
        let too_large = || {
            let message = format!("The body is larger than {limit} bytes; --http-api-max-payload-size is the limit");
            Outcome::NotReceived(StatusCode::PAYLOAD_TOO_LARGE, message)
        };
        if body.size_hint().lower() > limit as u64 {
            return Err(too_large());
        }
        match timeout(receive, Limited::new(body, limit).collect()).await {
            Ok(Ok(body)) => Ok(body.to_bytes()),
            Ok(Err(err)) if err.is::<LengthLimitError>() => Err(too_large()),
            Ok(Err(err)) => {
                Err(Outcome::NotReceived(StatusCode::BAD_REQUEST, format!("The body cannot be read: {err}")))
            }
            Err(_) => {
                let message = format!("The body did not arrive within {} s", receive.as_secs_f32());
                Err(Outcome::NotReceived(StatusCode::REQUEST_TIMEOUT, message))
            }
        }
    }

    async fn call(&self, head: &Parts, body: &[u8]) -> Outcome {
        let request = match parse(head.method.as_str(), head.uri.path(), head.uri.query(), body) {
            Ok(request) => request,
            Err(fault) => return Outcome::Answer { result: Err(fault), deprecated: false },
        };
        let (reply, answer) = oneshot::channel();
        (self.send)(Call { action: request.action, reply });
        match answer.await {
            Ok(result) => Outcome::Answer { result, deprecated: request.deprecated },
            Err(_) => Outcome::NoVmm,
        }
    }
}

impl Outcome {
    fn into_response(self) -> Response<Full<Bytes>> {
        match self {
            Self::Answer { result, deprecated } => {
                let mut response = match result {
                    Ok(Reply::NoContent) => empty(),
                    Ok(reply) => json(StatusCode::OK, &reply),
                    Err(fault) => fault_message(fault.status_code(), fault.message()),
                };
                if deprecated {
                    let name = HeaderName::from_static("deprecation");
                    response.headers_mut().insert(name, HeaderValue::from_static("true"));
                }
                response
            }
            Self::NotReceived(status, message) => {
                let mut response = fault_message(status, &message);
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                response
            }
            Self::NoVmm => fault_message(StatusCode::SERVICE_UNAVAILABLE, "The VM is ending"),
        }
    }
}

fn empty() -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

fn fault_message(status: StatusCode, message: &str) -> Response<Full<Bytes>> {
    json(status, &FaultMessage { fault_message: message.to_owned() })
}

fn json(status: StatusCode, value: &impl serde::Serialize) -> Response<Full<Bytes>> {
    match serde_json::to_vec(value) {
        Ok(text) => {
            let mut response = Response::new(Full::from(text));
            *response.status_mut() = status;
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response
        }
        // A path that is no UTF-8, which only a flag can bring in.
        Err(err) => fault_message(StatusCode::BAD_REQUEST, &format!("The answer cannot be written: {err}")),
    }
}
