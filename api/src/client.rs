// SPDX-License-Identifier: Apache-2.0
//! A small blocking client, for tests and tools.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::runtime::{self, Runtime};
use tokio::time::timeout;

use crate::resources::{ActionType, FaultMessage, InstanceAction, VmState, VmUpdate};

/// Why there is no good answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nobody listens there.
    #[error("No connection to {}", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The VMM refused.
    #[error("Status {status}: {message}")]
    Fault {
        /// The HTTP status.
        status: u16,
        /// Its reason.
        message: String,
    },
    /// The answer is not what it should be.
    #[error("Status {status} with an unexpected body: {body}")]
    Unexpected {
        /// The HTTP status.
        status: u16,
        /// What came with it.
        body: String,
    },
    /// No answer in time.
    #[error("No answer within {0:?}")]
    Timeout(Duration),
    /// The request cannot be written as HTTP.
    #[error("The request is not HTTP")]
    Request(#[from] hyper::http::Error),
    /// The request cannot be written as JSON.
    #[error("The request is not JSON")]
    Json(#[from] serde_json::Error),
    /// The connection broke.
    #[error("The connection broke")]
    Http(#[from] hyper::Error),
}

/// A client of one socket. Every request has a connection of its own.
#[derive(Debug)]
pub struct Client {
    path: PathBuf,
    runtime: Runtime,
    timeout: Duration,
}

impl Client {
    /// A client of the socket at `path`, which waits two minutes at most for an answer.
    ///
    /// # Errors
    /// The runtime cannot be made.
    pub fn new(path: impl AsRef<Path>) -> io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        Ok(Self { path: path.as_ref().to_owned(), runtime, timeout: Duration::from_secs(120) })
    }

    /// Asks for a resource.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        let (status, body) = self.request("GET", path, Vec::new())?;
        serde_json::from_slice(&body).map_err(|_| unexpected(status, &body))
    }

    /// Sets a resource.
    pub fn put(&self, path: &str, body: &impl Serialize) -> Result<(), Error> {
        self.change("PUT", path, body)
    }

    /// Changes a resource.
    pub fn patch(&self, path: &str, body: &impl Serialize) -> Result<(), Error> {
        self.change("PATCH", path, body)
    }

    /// Starts the VM or does another of the `/actions`.
    pub fn action(&self, action_type: ActionType) -> Result<(), Error> {
        self.put("/actions", &InstanceAction { action_type })
    }

    /// Pauses or resumes the VM.
    pub fn set_state(&self, state: VmState) -> Result<(), Error> {
        self.patch("/vm", &VmUpdate { state })
    }

    fn change(&self, method: &str, path: &str, body: &impl Serialize) -> Result<(), Error> {
        match self.request(method, path, serde_json::to_vec(body)?)? {
            (204, _) => Ok(()),
            (status, body) => Err(unexpected(status, &body)),
        }
    }

    /// Any request, with the status and body of a successful answer.
    pub fn request(&self, method: &str, path: &str, body: Vec<u8>) -> Result<(u16, Vec<u8>), Error> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "localhost")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::from(body))?;
        let exchange = async { timeout(self.timeout, self.exchange(request)).await };
        let (status, body) = self.runtime.block_on(exchange).map_err(|_| Error::Timeout(self.timeout))??;
        if status.is_success() {
            return Ok((status.as_u16(), body));
        }
        let status = status.as_u16();
        Err(match serde_json::from_slice(&body) {
            Ok(FaultMessage { fault_message: message }) => Error::Fault { status, message },
            Err(_) => unexpected(status, &body),
        })
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<(StatusCode, Vec<u8>), Error> {
        let connect = UnixStream::connect(&self.path).await;
        let stream = connect.map_err(|source| Error::Connect { path: self.path.clone(), source })?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes().into();
        connection.abort();
        Ok((status, body))
    }
}

fn unexpected(status: u16, body: &[u8]) -> Error {
    Error::Unexpected { status, body: String::from_utf8_lossy(body).into_owned() }
}
