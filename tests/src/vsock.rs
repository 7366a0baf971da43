// SPDX-License-Identifier: Apache-2.0
//! The host's side of a guest's vsock: Firecracker's way over unix sockets.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// How long a guest may be silent.
const SILENCE: Duration = Duration::from_secs(60);

/// Connects to a port that the guest listens on, by the device's unix socket.
///
/// # Errors
/// The socket is not there, or nobody listens in the guest.
pub fn connect(uds: &Path, port: u32) -> Result<UnixStream> {
    let mut stream = UnixStream::connect(uds).with_context(|| format!("Cannot connect to {}", uds.display()))?;
    stream.set_read_timeout(Some(SILENCE))?;
    stream.write_all(format!("CONNECT {port}\n").as_bytes())?;
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        let mut byte = [0];
        let read = stream.read(&mut byte).context("No answer to CONNECT")?;
        ensure!(read == 1, "Nobody listens on vsock port {port} of the guest");
        line.push(byte[0]);
    }
    ensure!(line.starts_with(b"OK "), "CONNECT {port} was answered with {:?}", String::from_utf8_lossy(&line));
    Ok(stream)
}

/// Listens where the guest's connections to `port` of the host arrive.
///
/// # Errors
/// The socket cannot be made.
pub fn listen(uds: &Path, port: u32) -> Result<UnixListener> {
    let mut path = OsString::from(uds);
    path.push(format!("_{port}"));
    UnixListener::bind(&path).with_context(|| format!("Cannot listen on {}", path.display()))
}
