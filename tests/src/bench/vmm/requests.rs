// SPDX-License-Identifier: Apache-2.0
//! How long requests take, and a start to the guest's first instruction.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::process::{LIMIT, Process};
use super::trace::{KVM_ENTRY, Trace};
use super::{Bench, INIT_LINE};

/// Each request is made so often; the figure is the median.
const TIMES: usize = 15;

pub(super) fn measure(bench: &Bench) -> Result<()> {
    let socket = bench.path("api.sock");
    // Left by the VMM that was measured before.
    let _ = fs::remove_file(&socket);
    let begun = Instant::now();
    let mut process = Process::start(bench, ["--api-sock".as_ref(), socket.as_os_str()])?;
    let mut connection = Connection::open(&socket)?;
    bench.figure("api_ready_ns", u64::try_from(begun.elapsed().as_nanos())?)?;

    let disk = bench.path("small");
    File::create(&disk)?.set_len(1 << 20)?;
    let drive = json!({ "drive_id": "d", "path_on_host": disk, "is_root_device": false, "is_read_only": false });
    let machine = json!({ "vcpu_count": 1, "mem_size_mib": 128 });
    let metadata = json!({ "latest": { "meta-data": { "ami-id": "ami-1" } } });
    let source = bench.boot_source("");
    for (method, path, body) in [
        ("GET", "/", None),
        ("GET", "/version", None),
        ("GET", "/machine-config", None),
        ("PUT", "/machine-config", Some(&machine)),
        ("PUT", "/boot-source", Some(&source)),
        ("PUT", "/drives/d", Some(&drive)),
        ("PUT", "/mmds", Some(&metadata)),
        ("GET", "/mmds", None),
        ("GET", "/vm/config", None),
    ] {
        time(bench, &mut connection, method, path, body)?;
    }

    let trace = Trace::begin(&[KVM_ENTRY])?;
    connection.request("PUT", "/actions", Some(&json!({ "action_type": "InstanceStart" })))?;
    // The answer may come before the vCPU's thread has its turn.
    process.expect(INIT_LINE)?;
    bench.figure("start_to_run_us", trace.end()?.microseconds_to("kvm_entry")?)?;

    let (mut pauses, mut resumes) = (Vec::new(), Vec::new());
    for _ in 0..TIMES {
        pauses.push(connection.timed("PATCH", "/vm", Some(&json!({ "state": "Paused" })))?);
        resumes.push(connection.timed("PATCH", "/vm", Some(&json!({ "state": "Resumed" })))?);
    }
    bench.figure("request_ns PATCH /vm Paused", median(pauses))?;
    bench.figure("request_ns PATCH /vm Resumed", median(resumes))
}

fn time(bench: &Bench, connection: &mut Connection, method: &str, path: &str, body: Option<&Value>) -> Result<()> {
    let times = (0..TIMES).map(|_| connection.timed(method, path, body)).collect::<Result<Vec<_>>>()?;
    bench.figure(&format!("request_ns {method} {path}"), median(times))
}

fn median(mut times: Vec<u64>) -> u64 {
    times.sort_unstable();
    times[times.len() / 2]
}

/// One connection, kept, as clients do.
struct Connection {
    stream: BufReader<UnixStream>,
}

impl Connection {
    fn open(socket: &Path) -> Result<Self> {
        let deadline = Instant::now() + LIMIT;
        loop {
            match UnixStream::connect(socket) {
                Ok(stream) => return Ok(Connection { stream: BufReader::new(stream) }),
                Err(error) if Instant::now() > deadline => return Err(error).context("The API does not listen"),
                Err(_) => sleep(Duration::from_millis(1)),
            }
        }
    }

    fn timed(&mut self, method: &str, path: &str, body: Option<&Value>) -> Result<u64> {
        let begun = Instant::now();
        self.request(method, path, body)?;
        Ok(u64::try_from(begun.elapsed().as_nanos())?)
    }

    /// Makes a request, which must succeed.
    fn request(&mut self, method: &str, path: &str, body: Option<&Value>) -> Result<()> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let kind = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
        let length = body.len();
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{kind}Content-Length: {length}\r\n\r\n{body}");
        self.stream.get_mut().write_all(request.as_bytes())?;

        let mut status = String::new();
        self.stream.read_line(&mut status)?;
        let mut length = 0;
        loop {
            let mut line = String::new();
            ensure!(self.stream.read_line(&mut line)? > 0, "{method} {path}: the connection ended");
            if line.trim().is_empty() {
                break;
            }
            if let Some((name, value)) =
                line.split_once(':').filter(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            {
                length = value.trim().parse().with_context(|| format!("Not a length: {name}"))?;
            }
        }
        let mut answer = vec![0; length];
        self.stream.read_exact(&mut answer)?;
        if !status.starts_with("HTTP/1.1 20") {
            bail!("{method} {path}: {} {}", status.trim(), String::from_utf8_lossy(&answer));
        }
        Ok(())
    }
}
