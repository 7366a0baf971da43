// SPDX-License-Identifier: Apache-2.0
//! One attack: a seed, and what surrounds it.

use std::path::PathBuf;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::Result;
use secretvmm_tests::host::kernel_log::KernelLog;

use crate::machine::{Backing, End, Machine};
use crate::neighbours::{Company, Neighbours};
use crate::netlink::Changes;
use crate::outcome::{END_LIMIT, Outcome};
use crate::sink::Sink;
use crate::watch::{Said, ask, own_memory};

/// What is to be tried.
#[derive(Clone, Debug)]
pub struct Attack {
    /// The VMM.
    pub program: PathBuf,
    /// What guest memory is made of.
    pub backing: Backing,
    /// Of everything that the guest and its neighbours do.
    pub seed: u64,
    /// How many rounds the guest goes; then it ends the machine.
    pub rounds: u64,
    /// Only this kind of round: 0 mix, 1 resets, 2 queues, 3 ports, 4 registers, 5 connections, 6 metadata, 7 long chains.
    pub round: Option<u64>,
    /// How the machine is to end.
    pub end: End,
    /// After this much time SIGTERM ends it in any case.
    pub limit: Duration,
    /// How long an answer to `GET /` may take.
    pub patience: Duration,
    /// Where the console goes.
    pub stdout: Sink,
    /// Where the log goes.
    pub stderr: Sink,
    /// Who does something on the host's side.
    pub company: Company,
}

impl Attack {
    /// An attack with every neighbour and both streams read, ended by SIGTERM.
    pub fn new(program: PathBuf, backing: Backing, seed: u64, limit: Duration) -> Self {
        let (rounds, round, end) = (u64::MAX, None, End::Terminate);
        let patience = Duration::from_millis(100);
        let (stdout, stderr, company) = (Sink::Read, Sink::Read, Company::Everybody);
        Self { program, backing, seed, rounds, round, end, limit, patience, stdout, stderr, company }
    }

    /// Does it.
    ///
    /// # Errors
    /// It cannot be tried, or the host's kernel complained.
    pub fn run(&self) -> Result<Outcome> {
        let mut log = KernelLog::from_now()?;
        let mut machine = Machine::start(self)?;
        // The other end of an unread stream stays open, and nobody reads.
        let streams = (machine.output.take(), machine.messages.take());
        let (console, _unread) = if self.stdout == Sink::Read { (streams.0, None) } else { (None, streams.0) };
        let (messages, _unread) = if self.stderr == Sink::Read { (streams.1, None) } else { (None, streams.1) };
        let (mut console, mut messages) = (Said::by(console), Said::by(messages));
        if let Err(err) = machine.wait_for_api() {
            drop(machine);
            messages.finish();
            return Err(err.context(messages.ends()));
        }
        let neighbours = Neighbours::default();
        let folder = machine.folder.path().to_owned();
        let outcome = thread::scope(|scope| {
            let started = neighbours.start(scope, &folder, self);
            let outcome = started.and_then(|()| self.watch(&mut machine));
            neighbours.stop();
            // Else a client may wait for an answer for ever.
            let _ = machine.child.kill();
            outcome
        });
        let mut outcome = outcome?;
        drop(machine);
        console.finish();
        messages.finish();
        outcome.requests = neighbours.requests.into_inner();
        outcome.operations = console.operations();
        outcome.said = messages.amount();
        outcome.messages = messages.ends();
        log.assert_clean()?;
        Ok(outcome)
    }

    fn watch(&self, machine: &mut Machine) -> Result<Outcome> {
        let changes = Changes::listen()?;
        let socket = machine.path("api");
        let begun = Instant::now();
        let mut outcome = Outcome::default();
        while outcome.status.is_none() && begun.elapsed() < self.limit {
            if begun.elapsed() >= Duration::from_millis(200) * outcome.memory.len() as u32 {
                outcome.memory.extend(own_memory(machine.pid()));
            }
            let answer = ask(&socket, machine.pid());
            // Without an answer it has most likely just ended.
            sleep(Duration::from_millis(if answer.is_ok() { 5 } else { 500 }));
            outcome.status = machine.child.try_wait()?;
            match answer {
                Ok(answer) => outcome.note(answer),
                Err(err) if outcome.status.is_none() => {
                    outcome.unanswered = Some(format!("{err:#}"));
                    break;
                }
                Err(_) => {}
            }
        }
        outcome.time = begun.elapsed();
        outcome.changes = changes.count();
        if outcome.status.is_none() {
            machine.terminate()?;
        }
        let told = Instant::now();
        while outcome.status.is_none() && told.elapsed() < END_LIMIT {
            sleep(Duration::from_millis(2));
            outcome.status = machine.child.try_wait()?;
        }
        outcome.ending = told.elapsed();
        Ok(outcome)
    }
}
