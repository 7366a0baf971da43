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
use super::{Bench, INIT_LINE};

/// Each request is made so often; the figure is the median.
const TIMES: usize = 15;
const TRACING: &str = "/sys/kernel/tracing";
const MARK: &str = "bench: start";

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

    let trace = Trace::begin()?;
    connection.request("PUT", "/actions", Some(&json!({ "action_type": "InstanceStart" })))?;
    bench.figure("start_to_run_us", trace.microseconds_to("kvm_entry")?)?;
    process.expect(INIT_LINE)?;

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

/// The kernel's trace of entries into guests, from a mark on.
struct Trace;

impl Trace {
    fn begin() -> Result<Self> {
        for (file, value) in [
            ("tracing_on", "0"),
            ("trace", ""),
            ("options/overwrite", "0"),
            ("events/kvm/kvm_entry/enable", "1"),
            ("tracing_on", "1"),
            ("trace_marker", MARK),
        ] {
            fs::write(format!("{TRACING}/{file}"), value).with_context(|| format!("Cannot write {TRACING}/{file}"))?;
        }
        Ok(Trace)
    }

    /// The time from the mark to the first event of that name.
    fn microseconds_to(self, event: &str) -> Result<u64> {
        fs::write(format!("{TRACING}/tracing_on"), "0")?;
        let text = fs::read_to_string(format!("{TRACING}/trace")).context("Cannot read the trace")?;
        let mark = text.lines().find(|line| line.contains(MARK)).context("The mark is not in the trace")?;
        let first = text.lines().find(|line| line.contains(&format!(": {event}: ")));
        let first = first.with_context(|| format!("No {event} in the trace"))?;
        Ok(microseconds(first)? - microseconds(mark)?)
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        // What follows is slower with it on, and goes with the host at the latest.
        let _ = fs::write(format!("{TRACING}/events/kvm/kvm_entry/enable"), "0");
    }
}

/// ` bench-91    [000] .....    12.345678: kvm_entry: …` → 12345678.
fn microseconds(line: &str) -> Result<u64> {
    let stamp = line.split_whitespace().find_map(|word| {
        let (seconds, fraction) = word.strip_suffix(':')?.split_once('.')?;
        let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        (all_digits(seconds) && all_digits(fraction) && fraction.len() == 6).then(|| format!("{seconds}{fraction}"))
    });
    stamp.with_context(|| format!("No time in {line}"))?.parse().context("Not a time")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn microseconds_reads_a_line_of_the_trace() {
        let line = "     vcpu0-92      [000] .....    12.345678: kvm_entry: vcpu 0, rip 0x1000000";
        assert_eq!(microseconds(line).unwrap(), 12_345_678);
        assert!(microseconds("# entries-in-buffer/entries-written: 1/1").is_err());
    }
}
