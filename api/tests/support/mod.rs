// SPDX-License-Identifier: Apache-2.0
//! A server whose VMM is a few lines long, and a client without good manners.

// Not every test program uses all of it.
#![allow(dead_code, unreachable_pub)]

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use secretvmm_api::client::Client;
use secretvmm_api::server::{Limits, Server, SocketFile, Stopper, bind};
use secretvmm_api::{Action, Any, Call, Fault, InstanceInfo, InstanceState, Live, Reply, Setup, Version};
use tempfile::TempDir;

/// A server and its VMM, stopped when dropped.
pub struct Host {
    pub path: PathBuf,
    pub stopper: Stopper,
    server: Option<JoinHandle<()>>,
    _file: SocketFile,
    _dir: TempDir,
}

impl Host {
    pub fn new() -> Self {
        Self::with_limits(Limits::default())
    }

    pub fn with_limits(limits: Limits) -> Self {
        let (send, calls) = mpsc::channel::<Call>();
        thread::spawn(move || calls.into_iter().for_each(vmm));
        Self::with(limits, move |call| drop(send.send(call)))
    }

    pub fn with(limits: Limits, send: impl Fn(Call) + Send + 'static) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("api.sock");
        let socket = bind(&path).unwrap();
        let server = Server::new(socket.listener, limits, send);
        let stopper = server.stopper();
        let server = Some(thread::spawn(move || server.run().unwrap()));
        Self { path, stopper, server, _file: socket.file, _dir: dir }
    }

    pub fn client(&self) -> Client {
        Client::new(&self.path).unwrap()
    }

    pub fn connect(&self) -> Raw {
        Raw::new(&self.path)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.stopper.stop();
        if let Some(server) = self.server.take() {
            server.join().unwrap();
        }
    }
}

/// Answers like a VMM that has been started. Ctrl-Alt-Del takes a while, and metrics end the VMM.
fn vmm(call: Call) {
    let result = match &call.action {
        Action::Any(Any::GetInstanceInfo) => Ok(Reply::InstanceInfo(InstanceInfo {
            id: "test".into(),
            state: InstanceState::Running,
            vmm_version: "1".into(),
            app_name: "test".into(),
        })),
        Action::Any(Any::GetVersion) => Ok(Reply::Version(Version { firecracker_version: "1.2.3".into() })),
        Action::Any(Any::GetMmds) => {
            Ok(Reply::Mmds(serde_json::Map::from_iter([("big".into(), "x".repeat(1 << 20).into())])))
        }
        Action::Setup(Setup::Start) => Err(Fault::new("The VM has been started already")),
        Action::Any(Any::PutMmds(_)) => Err(Fault::too_large("The metadata are too large")),
        Action::Live(Live::SendCtrlAltDel) => {
            thread::sleep(Duration::from_millis(300));
            Ok(Reply::NoContent)
        }
        Action::Live(Live::FlushMetrics) => return,
        _ => Ok(Reply::NoContent),
    };
    drop(call.reply.send(result));
}

/// A connection without a client library's good manners.
pub struct Raw(pub BufReader<UnixStream>);

#[derive(Debug, PartialEq)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<String>,
    pub body: String,
}

impl Raw {
    pub fn new(path: &Path) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        Self(BufReader::new(stream))
    }

    pub fn send(&mut self, text: &str) -> &mut Self {
        self.0.get_mut().write_all(text.as_bytes()).unwrap();
        self
    }

    /// The next answer, or None if the connection is closed.
    pub fn receive(&mut self) -> Option<Answer> {
        let mut line = String::new();
        if self.0.read_line(&mut line).unwrap_or(0) == 0 {
            return None;
        }
        let status = line.split(' ').nth(1).unwrap().parse().unwrap();
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line).unwrap();
            match line.trim_end() {
                "" => break,
                line => headers.push(line.to_ascii_lowercase()),
            }
        }
        let length = headers.iter().find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
        self.0.read_exact(&mut body).unwrap();
        Some(Answer { status, headers, body: String::from_utf8(body).unwrap() })
    }

    pub fn closed(&mut self) -> bool {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest).is_ok() && rest.is_empty()
    }
}

pub fn put(path: &str, body: &str) -> String {
    format!("PUT {path} HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}
