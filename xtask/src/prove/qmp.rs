// SPDX-License-Identifier: Apache-2.0
//! Orders to QEMU by its machine protocol (QMP): stop the machine, dump it, let it go on.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// How long QEMU may take to make its socket.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long an answer may take: the dump of a large machine to a slow disk.
const LIMIT: Duration = Duration::from_secs(300);

/// A connection that may give orders.
pub(super) struct Qmp {
    reader: BufReader<UnixStream>,
    writer: UnixStream,
}

impl Qmp {
    pub(super) fn connect(socket: &Path) -> Result<Self> {
        let begun = Instant::now();
        let stream = loop {
            match UnixStream::connect(socket) {
                Ok(stream) => break stream,
                Err(_) if begun.elapsed() < PATIENCE => thread::sleep(Duration::from_millis(20)),
                Err(error) => return Err(error).with_context(|| format!("Cannot reach QEMU at {}", socket.display())),
            }
        };
        stream.set_read_timeout(Some(LIMIT)).context("Cannot set a time limit")?;
        let writer = stream.try_clone().context("Cannot duplicate a socket")?;
        let mut qmp = Self { reader: BufReader::new(stream), writer };
        qmp.message()?;
        qmp.order("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// All CPUs stand still from here on.
    pub(super) fn stop(&mut self) -> Result<()> {
        self.order("stop", json!({}))
    }

    pub(super) fn go_on(&mut self) -> Result<()> {
        self.order("cont", json!({}))
    }

    /// Writes physical memory and the CPUs' registers to an ELF core file.
    pub(super) fn dump(&mut self, to: &Path) -> Result<()> {
        self.order("dump-guest-memory", json!({ "paging": false, "protocol": format!("file:{}", to.display()) }))
    }

    fn order(&mut self, execute: &str, arguments: Value) -> Result<()> {
        let order = json!({ "execute": execute, "arguments": arguments });
        writeln!(self.writer, "{order}").context("Cannot send QEMU an order")?;
        loop {
            let message = self.message()?;
            // Events come in between.
            if message.get("return").is_some() {
                return Ok(());
            }
            if let Some(error) = message.get("error") {
                bail!("QEMU refused {execute}: {}", error["desc"].as_str().unwrap_or("it gives no reason"));
            }
        }
    }

    fn message(&mut self) -> Result<Value> {
        let mut line = String::new();
        let length = self.reader.read_line(&mut line).context("QEMU does not answer")?;
        if length == 0 {
            bail!("QEMU closed its connection");
        }
        serde_json::from_str(&line).with_context(|| format!("QEMU sent no JSON: {line}"))
    }
}
