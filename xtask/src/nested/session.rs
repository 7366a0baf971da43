// SPDX-License-Identifier: Apache-2.0
//! One run of the nested host: QEMU, the channel, the terminal, signals.

use std::env;
use std::fs::File;
use std::io::{self, ErrorKind, IsTerminal, Read, Write, stderr, stdin, stdout};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::Signal;

use super::capture::Capture;
use super::channel::{CHUNK, Frame, Start};
use super::cpu::{self, Cpu};
use super::outcome::{Failure, Outcome};
use super::spec::{Input, Spec};
use super::terminal::{Raw, Signals};
use super::{log, pty, qemu, stale};
use crate::setup::beside;
use crate::support::cache;
use crate::support::initramfs::Initramfs;
use crate::support::orphan::end_with_parent;
use crate::support::paths::Paths;
use crate::support::process;

/// Ends the session when typed: Ctrl-].
const QUIT: u8 = 0x1d;

/// How often signals, the time limit and QEMU are looked at.
const TICK: Duration = Duration::from_millis(50);

/// What the channel's reader tells the main thread.
enum Event {
    Up,
    Exit(u8),
    /// QEMU closed the channel, or sent what is no frame.
    Closed,
    /// Our own standard output is closed.
    OutputClosed,
    /// The user typed the quit key.
    Quit,
}

/// Boots the nested host, runs the command, ends the host.
pub(crate) fn run(paths: &Paths, spec: &Spec) -> Result<Outcome> {
    let mut signals = Signals::catch()?;
    let log = log::create(&paths.host_logs())?;
    if spec.verbose {
        eprintln!("xtask: host kernel log: {}", log.display());
    }
    let scratch = Scratch(log.with_extension("cpio"));
    Initramfs {
        init: include_str!("init.sh"),
        folders: &["lower", "newroot", "sys", "upper"],
        // The path of this program, which /init becomes in the end.
        files: &[("xtask", paths.xtask.as_os_str().as_bytes())],
        modules: spec.modules.as_deref(),
    }
    .write(&scratch.0)?;

    let (ours, theirs) = UnixStream::pair().context("Cannot create a socket pair")?;
    let cpu = cpu::claim(&paths.cache)?;
    let memory = spec.machine.stale.then(|| Scratch(log.with_extension("memory")));
    if let Some(memory) = &memory {
        stale::write(&memory.0, spec.machine.mib() << 20)?;
    }
    let memory = memory.as_ref().map(|memory| memory.0.as_path());
    let files = qemu::Files { initramfs: &scratch.0, memory, log: &log, channel: theirs.as_raw_fd() };
    let mut machine = Machine::start(paths, spec, &cpu, &files, theirs)?;
    let terminal = if matches!(spec.input, Input::Own) && stdin().is_terminal() && stdout().is_terminal() {
        Some(pty::size(stdin().as_fd()).unwrap_or((24, 80)))
    } else {
        None
    };
    let (sender, events) = mpsc::channel();
    let mut to_inside = ours.try_clone().context("Cannot duplicate a socket")?;
    Frame::Start(start(spec, terminal)?).send(&mut to_inside).context("Cannot send the command to QEMU")?;
    receive(ours, spec.copy.clone(), sender.clone());

    let mut session =
        Session { spec, log: &log, begun: Instant::now(), terminal: terminal.is_some(), raw: None, to_inside, sender };
    let result = session.watch(&events, &mut signals, &mut machine);
    drop(session);
    machine.end()?;
    if let Some(copy) = &spec.copy {
        copy.finish().context("Cannot write to standard output")?;
    }
    let code = result?;
    Ok(Outcome { code, log })
}

/// What the inside is to run.
fn start(spec: &Spec, terminal: Option<(u16, u16)>) -> Result<Start> {
    let bytes = |text: &std::ffi::OsStr| text.as_bytes().to_vec();
    let mut environment: Vec<(Vec<u8>, Vec<u8>)> =
        env::vars_os().map(|(name, value)| (bytes(&name), bytes(&value))).collect();
    environment.extend(spec.environment.iter().map(|(name, value)| (bytes(name), bytes(value))));
    let directory = env::current_dir().context("Cannot tell the current folder")?;
    Ok(Start {
        command: spec.command.iter().map(|word| bytes(word)).collect(),
        environment,
        directory: bytes(directory.as_os_str()),
        terminal,
    })
}

/// Passes output on and reports the rest, in a thread of its own.
fn receive(mut from: UnixStream, copy: Option<Capture>, events: Sender<Event>) {
    thread::spawn(move || {
        loop {
            let written = match Frame::receive(&mut from) {
                Ok(Frame::Stdout(bytes)) => match &copy {
                    Some(copy) => copy.add(&bytes),
                    None => write(stdout(), &bytes),
                },
                Ok(Frame::Stderr(bytes)) => write(stderr(), &bytes),
                Ok(Frame::Up) => events.send(Event::Up).map_err(|_| ErrorKind::BrokenPipe.into()),
                Ok(Frame::Exit(code)) => {
                    // The main thread may have stopped listening.
                    let _ = events.send(Event::Exit(code));
                    return;
                }
                Ok(_) | Err(_) => {
                    let _ = events.send(Event::Closed);
                    return;
                }
            };
            if written.is_err() {
                let _ = events.send(Event::OutputClosed);
                return;
            }
        }
    });
}

fn write(mut to: impl Write, bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes)?;
    to.flush()
}

/// Passes input on, in a thread of its own.
fn send_input(mut from: impl Read + Send + 'static, mut to: UnixStream, terminal: bool, events: Sender<Event>) {
    thread::spawn(move || {
        let mut chunk = vec![0; CHUNK];
        loop {
            match from.read(&mut chunk) {
                Ok(length) if terminal && chunk[..length].contains(&QUIT) => {
                    let _ = events.send(Event::Quit);
                    return;
                }
                Ok(length) if length > 0 => {
                    if Frame::Stdin(chunk[..length].to_vec()).send(&mut to).is_err() {
                        return;
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => {
                    let _ = Frame::StdinEnd.send(&mut to);
                    return;
                }
            }
        }
    });
}

/// The main thread's part.
struct Session<'a> {
    spec: &'a Spec,
    log: &'a Path,
    begun: Instant,
    terminal: bool,
    raw: Option<Raw>,
    to_inside: UnixStream,
    sender: Sender<Event>,
}

impl Session<'_> {
    /// Waits for the command's end, or for a reason not to.
    fn watch(&mut self, events: &Receiver<Event>, signals: &mut Signals, machine: &mut Machine) -> Result<u8> {
        loop {
            match events.recv_timeout(TICK) {
                Ok(Event::Up) => self.up()?,
                Ok(Event::Exit(code)) => return Ok(code),
                Ok(Event::OutputClosed) => return Err(Failure::Interrupted(Signal::SIGPIPE as i32).into()),
                Ok(Event::Quit) => return Err(Failure::Interrupted(Signal::SIGINT as i32).into()),
                Ok(Event::Closed) | Err(RecvTimeoutError::Disconnected) => {
                    self.raw = None;
                    return Err(Failure::Died(machine.obituary(self.log)).into());
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            while let Some(signal) = signals.next() {
                self.signal(signal)?;
            }
            if let Some(limit) = self.spec.timeout.filter(|limit| self.begun.elapsed() > *limit) {
                eprintln!("xtask: last lines of {}:\n{}", self.log.display(), process::tail(self.log));
                return Err(Failure::Timeout(limit).into());
            }
        }
    }

    fn up(&mut self) -> Result<()> {
        if self.spec.verbose {
            let time = self.begun.elapsed();
            eprintln!("xtask: the nested host is up after {}.{:03} s", time.as_secs(), time.subsec_millis());
        }
        if self.terminal {
            if self.spec.verbose {
                eprintln!("xtask: Ctrl-] ends the nested host");
            }
            self.raw = Some(Raw::enter()?);
        }
        let to = self.to_inside.try_clone().context("Cannot duplicate a socket")?;
        match &self.spec.input {
            // A channel that broke is reported by its reader.
            Input::Nothing => drop(Frame::StdinEnd.send(&mut self.to_inside)),
            Input::Own => send_input(stdin(), to, self.terminal, self.sender.clone()),
            Input::Stream(stream) => {
                let from = stream.try_clone().context("Cannot duplicate a socket")?;
                send_input(from, to, false, self.sender.clone());
            }
        }
        Ok(())
    }

    fn signal(&mut self, signal: Signal) -> Result<()> {
        if signal != Signal::SIGWINCH {
            return Err(Failure::Interrupted(signal as i32).into());
        }
        if let (true, Some((rows, columns))) = (self.raw.is_some(), pty::size(stdin().as_fd())) {
            // A channel that broke is reported by its reader.
            let _ = Frame::Resize(rows, columns).send(&mut self.to_inside);
        }
        Ok(())
    }
}

/// QEMU, killed when dropped.
struct Machine {
    child: Child,
    complaints: PathBuf,
}

impl Machine {
    fn start(paths: &Paths, spec: &Spec, cpu: &Cpu, files: &qemu::Files<'_>, channel: UnixStream) -> Result<Self> {
        // The one descriptor that QEMU is to inherit.
        fcntl(&channel, FcntlArg::F_SETFD(FdFlag::empty())).context("Cannot hand the channel to QEMU")?;
        let complaints = files.log.with_extension("qemu");
        let output = File::create(&complaints).with_context(|| format!("Cannot write {}", complaints.display()))?;
        let mut command = qemu::command(&beside::program(&paths.cache), spec, cpu, files);
        if spec.verbose {
            eprintln!("xtask: {command:?}");
        }
        end_with_parent(&mut command, Signal::SIGKILL);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(output);
        #[expect(clippy::disallowed_methods, reason = "It ends with its parent")]
        let child = command.spawn().context("Cannot run qemu-system-x86_64; cargo xtask setup installs it")?;
        Ok(Self { child, complaints })
    }

    /// Why there is no QEMU any more, with the ends of its and the kernel's words.
    fn obituary(&mut self, log: &Path) -> String {
        let status = match self.wait_briefly() {
            Some(status) => format!("QEMU ended with {status}"),
            None => "QEMU runs on, but the channel is broken".into(),
        };
        let complaints = match process::tail(&self.complaints) {
            text if text.is_empty() => text,
            text => format!("\nQEMU said:\n{text}"),
        };
        format!("{status}{complaints}\nLast lines of {}:\n{}", log.display(), process::tail(log))
    }

    /// QEMU closes the channel a moment before it ends.
    fn wait_briefly(&mut self) -> Option<ExitStatus> {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return Some(status),
                Ok(None) if Instant::now() < deadline => thread::sleep(TICK),
                Ok(None) | Err(_) => return None,
            }
        }
    }

    fn end(mut self) -> Result<()> {
        self.kill();
        cache::remove(&self.complaints)
    }

    fn kill(&mut self) {
        // Both fail only when there is nothing left to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A file that is removed in the end.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = cache::remove(&self.0);
    }
}
