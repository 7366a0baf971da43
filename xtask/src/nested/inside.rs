// SPDX-License-Identifier: Apache-2.0
//! xtask as the first process of the nested host: runs the command that comes
//! over the channel, and sends its output and exit code back.

use std::convert::Infallible;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use super::channel::{CHUNK, Frame, Start};
use super::pty;

/// The port's name, as QEMU is told.
pub(super) const PORT: &str = "xtask";

/// After the command's end its output counts as complete when none has come
/// for so long (milliseconds): a process left behind may keep the pipe open.
const SILENCE: u16 = 150;

type Output = Arc<Mutex<File>>;

/// Never comes back in normal use: xtask outside ends QEMU. A return is a
/// kernel panic, whose log names the reason.
pub(crate) fn main() -> ExitCode {
    if std::process::id() != 1 {
        eprintln!("xtask: error: This command is for the nested host's first process");
        return ExitCode::FAILURE;
    }
    let Err(error) = serve();
    // With no channel the kernel's log is the one place left to say it.
    let _ = fs::write("/dev/kmsg", format!("nested host: the channel to xtask broke: {error}"));
    ExitCode::FAILURE
}

fn serve() -> io::Result<Infallible> {
    let mut input = open_port()?;
    let output: Output = Arc::new(Mutex::new(input.try_clone()?));
    let Frame::Start(start) = Frame::receive(&mut input)? else {
        return Err(io::Error::new(ErrorKind::InvalidData, "the first frame was no start"));
    };
    send(&output, &Frame::Up)?;
    let code = match spawn(&start) {
        Ok(running) => running.finish(input, &output)?,
        Err(error) => {
            let name = String::from_utf8_lossy(start.command.first().map_or(b"", Vec::as_slice)).into_owned();
            send(&output, &Frame::Stderr(format!("xtask: error: Cannot run {name}: {error}\n").into_bytes()))?;
            if error.kind() == ErrorKind::PermissionDenied { 126 } else { 127 }
        }
    };
    send(&output, &Frame::Exit(code))?;
    loop {
        thread::park();
    }
}

/// Opens the virtio-serial port, which the kernel may still be finding.
fn open_port() -> io::Result<File> {
    for _ in 0..200 {
        if let Some(name) = find_port() {
            return File::options().read(true).write(true).open(PathBuf::from("/dev").join(name));
        }
        thread::sleep(Duration::from_millis(50));
    }
    Err(io::Error::new(ErrorKind::NotFound, "no virtio-serial port"))
}

fn find_port() -> Option<OsString> {
    let ports = fs::read_dir("/sys/class/virtio-ports").ok()?;
    ports
        .flatten()
        .find(|port| fs::read_to_string(port.path().join("name")).is_ok_and(|name| name.trim() == PORT))
        .map(|port| port.file_name())
}

fn send(output: &Output, frame: &Frame) -> io::Result<()> {
    // A thread that panicked wrote no half frame: frames are one write.
    frame.send(&mut *output.lock().unwrap_or_else(PoisonError::into_inner))
}

/// The command, and this side of its streams.
struct Running {
    child: Child,
    terminal: Option<OwnedFd>,
}

fn spawn(start: &Start) -> io::Result<Running> {
    let mut words = start.command.iter().cloned().map(OsString::from_vec);
    let program = words.next().ok_or_else(|| io::Error::new(ErrorKind::InvalidInput, "no command"))?;
    let environment = start.environment.iter().cloned();
    let mut command = Command::new(program);
    command
        .args(words)
        .env_clear()
        .envs(environment.map(|(name, value)| (OsString::from_vec(name), OsString::from_vec(value))))
        .current_dir(OsString::from_vec(start.directory.clone()));
    let terminal = match start.terminal {
        Some((rows, columns)) => {
            let (ours, theirs) = pty::open(rows, columns)?;
            command.stdin(theirs.try_clone()?).stdout(theirs.try_clone()?).stderr(theirs);
            pty::lead_session_on_stdin(&mut command);
            Some(ours)
        }
        None => {
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
            None
        }
    };
    #[expect(clippy::disallowed_methods, reason = "The nested host ends with it")]
    let child = command.spawn()?;
    Ok(Running { child, terminal })
}

impl Running {
    /// Passes streams on until the command has ended and its output is sent.
    fn finish(mut self, input: File, output: &Output) -> io::Result<u8> {
        let ended = Arc::new(AtomicBool::new(false));
        let mut pumps = Vec::new();
        let to_command: Option<File> = match &self.terminal {
            Some(terminal) => {
                pumps.push(pump(terminal.try_clone()?, Frame::Stdout, output, &ended));
                Some(terminal.try_clone()?.into())
            }
            None => {
                let streams = (self.child.stdout.take(), self.child.stderr.take());
                pumps.extend(streams.0.map(|stdout| pump(stdout.into(), Frame::Stdout, output, &ended)));
                pumps.extend(streams.1.map(|stderr| pump(stderr.into(), Frame::Stderr, output, &ended)));
                self.child.stdin.take().map(|stdin| File::from(OwnedFd::from(stdin)))
            }
        };
        let terminal = self.terminal.take();
        thread::spawn(move || feed(input, to_command, terminal.as_ref()));

        let code = reap(Pid::from_raw(self.child.id().cast_signed()))?;
        ended.store(true, Ordering::Release);
        for pump in pumps {
            pump.join().map_err(|_| io::Error::other("an output thread panicked"))??;
        }
        Ok(code)
    }
}

/// Waits for the command, and for every process that lost its parent meanwhile.
fn reap(command: Pid) -> io::Result<u8> {
    loop {
        match waitpid(None, None) {
            Ok(WaitStatus::Exited(pid, code)) if pid == command => {
                return Ok(u8::try_from(code & 0xff).unwrap_or(u8::MAX));
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == command => {
                return Ok(u8::try_from(128 + signal as i32).unwrap_or(u8::MAX));
            }
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Sends what the command writes, until its end.
fn pump(
    from: OwnedFd,
    frame: fn(Vec<u8>) -> Frame,
    output: &Output,
    ended: &Arc<AtomicBool>,
) -> JoinHandle<io::Result<()>> {
    let (output, ended) = (Arc::clone(output), Arc::clone(ended));
    thread::spawn(move || {
        let mut from = File::from(from);
        let mut chunk = vec![0; CHUNK];
        loop {
            // Asked first: what was written before the end is there to be read.
            let last = ended.load(Ordering::Acquire);
            let mut ready = [PollFd::new(from.as_fd(), PollFlags::POLLIN)];
            match poll(&mut ready, PollTimeout::from(SILENCE)) {
                Ok(0) if last => return Ok(()),
                Ok(0) | Err(Errno::EINTR) => continue,
                Ok(_) => {}
                Err(errno) => return Err(errno.into()),
            }
            match from.read(&mut chunk) {
                Ok(0) => return Ok(()),
                Ok(length) => send(&output, &frame(chunk[..length].to_vec()))?,
                // A terminal's last program has closed it.
                Err(error) if error.raw_os_error() == Some(libc::EIO) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    })
}

/// Gives the command its input, until the channel ends.
fn feed(mut input: File, mut to_command: Option<File>, terminal: Option<&OwnedFd>) {
    while let Ok(frame) = Frame::receive(&mut input) {
        match (frame, to_command.take(), terminal) {
            (Frame::Stdin(bytes), Some(mut to), _) => {
                // A command that reads no more is not an error.
                to_command = to.write_all(&bytes).is_ok().then_some(to);
            }
            // Dropping our end is what the command sees as the end.
            (Frame::StdinEnd, ..) => {}
            (Frame::Resize(rows, columns), to, Some(terminal)) => {
                to_command = to;
                // A wrong size is better than no terminal.
                let _ = pty::set_size(terminal.as_fd(), rows, columns);
            }
            (_, to, _) => to_command = to,
        }
    }
}
