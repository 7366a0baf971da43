// SPDX-License-Identifier: Apache-2.0
//! A nested host with a agent on it that does as it is told, and can be looked at from outside.

use std::fs;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use secretvmm_canary::Seed;
use secretvmm_proof::dump::Dump;
use secretvmm_proof::examine::{Findings, examine};
use secretvmm_proof::orders::{ANSWER, Answer, Order, Running};

use super::qmp::Qmp;
use crate::host::{self, Host, Job};
use crate::linux::source::SourceArgs;
use crate::nested::{Capture, Input, MachineArgs, Outcome};
use crate::support::cache;
use crate::support::paths::{Paths, create_dir};

/// No order takes so long: a guest boots within it on a slow machine.
const LIMIT: Duration = Duration::from_secs(300);

const TICK: Duration = Duration::from_millis(10);

/// The host, running.
pub(super) struct Stage {
    orders: Arc<UnixStream>,
    /// Keeps our end of the orders open.
    to_host: UnixStream,
    output: Capture,
    answered: usize,
    host: Option<JoinHandle<Result<Outcome>>>,
    qmp: Qmp,
    folder: PathBuf,
}

/// A look from outside.
pub(super) struct Snapshot {
    pub(super) findings: Findings,
    /// How long the machine stood still for the dump, and how long the dump was read.
    pub(super) times: (Duration, Duration),
}

impl Stage {
    /// Boots a host of `machine` with the agent on it.
    pub(super) fn open(paths: &Paths, host: Host, machine: MachineArgs, source: &SourceArgs) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let folder = paths.repo.join("target/prove").join(name);
        create_dir(&folder)?;
        let (ours, theirs) = UnixStream::pair().context("Cannot create a socket pair")?;
        let (orders, output) = (Arc::new(theirs), Capture::kept());
        let monitor = folder.join("qmp");
        let job = Job {
            machine,
            input: Input::Stream(Arc::clone(&orders)),
            copy: Some(output.clone()),
            monitor: Some(monitor.clone()),
            ..Job::new(host, source, vec![paths.release().join("agent").into()])
        };
        let paths = paths.clone();
        let running = thread::spawn(move || host::run_job(&paths, &job));
        let qmp = Qmp::connect(&monitor)?;
        Ok(Self { orders, to_host: ours, output, answered: 0, host: Some(running), qmp, folder })
    }

    /// Has a guest booted.
    pub(super) fn start(&mut self, arguments: &[&str]) -> Result<Running> {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        match self.order(&Order::Start { arguments })? {
            Answer::Started(running) => Ok(running),
            other => bail!("The agent answered {other:?} instead of starting a guest"),
        }
    }

    /// Gives an order and waits for the answer.
    pub(super) fn order(&mut self, order: &Order) -> Result<Answer> {
        let line = serde_json::to_string(order).context("Cannot write an order")?;
        writeln!(self.to_host, "{line}").context("Cannot send the agent an order")?;
        let deadline = Instant::now() + LIMIT;
        loop {
            let text = self.output.text();
            if let Some((line, _)) = text[self.answered..].split_once('\n') {
                self.answered += line.len() + 1;
                let Some(answer) = line.strip_prefix(ANSWER) else { continue };
                return serde_json::from_str(answer).with_context(|| format!("The agent answered {answer}"));
            }
            ensure!(Instant::now() < deadline, "The agent did not answer within {} s", LIMIT.as_secs());
            if self.host.as_ref().is_none_or(JoinHandle::is_finished) {
                let outcome = self.join()?;
                bail!("The agent ended with code {}; kernel log: {}", outcome.code, outcome.log.display());
            }
            thread::sleep(TICK);
        }
    }

    /// Stops the machine, dumps it, lets it go on, and reads the dump.
    pub(super) fn look(&mut self, seed: Seed) -> Result<Snapshot> {
        let file = self.folder.join("memory");
        let begun = Instant::now();
        self.qmp.stop()?;
        self.qmp.dump(&file)?;
        self.qmp.go_on()?;
        let still = begun.elapsed();
        let findings = examine(&Dump::open(&file)?, seed)?;
        cache::remove(&file)?;
        Ok(Snapshot { findings, times: (still, begun.elapsed() - still) })
    }

    /// Ends the host; fails if its kernel complained.
    pub(super) fn close(mut self) -> Result<()> {
        self.hang_up();
        let outcome = self.join()?;
        match outcome.complaint() {
            Some(complaint) => Err(anyhow!(complaint)),
            None if outcome.code != 0 => bail!("The agent ended with code {}", outcome.code),
            None => Ok(()),
        }
    }

    fn hang_up(&self) {
        // It is closed if the host has gone.
        let _ = self.to_host.shutdown(std::net::Shutdown::Both);
        let _ = self.orders.shutdown(std::net::Shutdown::Both);
    }

    fn join(&mut self) -> Result<Outcome> {
        let host = self.host.take().context("The host has ended before")?;
        host.join().map_err(|_| anyhow!("The nested host's thread panicked"))?
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.hang_up();
        // Its own error is the reason to be here, or comes after another.
        let _ = self.host.take().map(JoinHandle::join);
        let _ = fs::remove_dir_all(&self.folder);
    }
}
