// SPDX-License-Identifier: Apache-2.0
//! Signals: those that end the VM arrive in the event loop, and no way out leaves a raw terminal.
#![allow(unsafe_code)] // signalfd, sigprocmask and handlers for SIGBUS and SIGSYS.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::FromRawFd;
use std::rc::Rc;

use event_manager::{EventOps, EventSet, Events, MutEventSubscriber};
use vmm_sys_util::signal::register_signal_handler;

use crate::{logger, outcome, terminal};

/// Signals that end the VM in good order.
const ENDING: [i32; 4] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT];

/// What a signal wants of the main thread, until that has seen it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// SIGTSTP: to be suspended.
    Suspend,
    /// This signal asks for the end.
    End(i32),
}

/// Turns signals into requestedes.
pub struct Signals {
    fd: File,
    requested: Rc<Cell<Option<Request>>>,
}

/// Keeps the signals from having their usual effect on this thread and those it starts, so that
/// they wait for [`Signals`]. To be called before the terminal is made raw.
pub fn block() {
    mask(libc::SIG_BLOCK);
}

/// Gives the signals their usual effect back. To be called when the terminal is as it was: what
/// is left to do may wait for standard error, and must not be out of reach then.
pub fn unblock() {
    mask(libc::SIG_UNBLOCK);
}

fn mask(how: libc::c_int) {
    // SAFETY: the set is initialised; the call fails only for an unknown `how`.
    unsafe { libc::pthread_sigmask(how, &handled(), std::ptr::null_mut()) };
}

impl Signals {
    /// Opens a descriptor for the signals that [`block`] has blocked.
    pub fn new(requested: Rc<Cell<Option<Request>>>) -> io::Result<Self> {
        // SAFETY: the set is valid; the result is checked below.
        let fd = unsafe { libc::signalfd(-1, &handled(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a fresh descriptor that nobody else has.
        let fd = unsafe { File::from_raw_fd(fd) };
        Ok(Self { fd, requested })
    }

    fn handle(&mut self) {
        let mut info = [0; size_of::<libc::signalfd_siginfo>()];
        while matches!(self.fd.read(&mut info), Ok(len) if len == info.len()) {
            // ssi_signo is the structure's first member.
            let [a, b, c, d, ..] = info;
            match i32::from_ne_bytes([a, b, c, d]) {
                // Whoever asks for both means the end.
                libc::SIGTSTP if self.requested.get().is_none() => self.requested.set(Some(Request::Suspend)),
                libc::SIGTSTP => {}
                signal => self.requested.set(Some(Request::End(signal))),
            }
        }
    }
}

impl MutEventSubscriber for Signals {
    fn init(&mut self, ops: &mut EventOps) {
        if let Err(err) = ops.add(Events::new(&self.fd, EventSet::IN)) {
            log::warn!("Signals cannot be watched: {err}");
        }
    }

    fn process(&mut self, _events: Events, _ops: &mut EventOps) {
        self.handle();
    }
}

/// Makes sure that a panic, a SIGBUS and a SIGSYS leave the terminal as it was, and a line that says why.
///
/// SIGBUS is what the VMM itself gets when it touches guest memory that the host cannot provide; SIGSYS
/// is what it gets for a system call that its filters forbid ([`crate::sandbox`]).
pub fn install_last_resort() -> Result<(), vmm_sys_util::errno::Error> {
    // The usual hook waits for standard error, and reads files for a backtrace, which filters forbid.
    std::panic::set_hook(Box::new(|info| {
        terminal::restore();
        logger::say_last(&format!("error: A bug in secretvmm: {info}"));
    }));
    register_signal_handler(libc::SIGSYS, on_sigsys)?;
    register_signal_handler(libc::SIGBUS, on_sigbus)
}

/// Stops this process as SIGTSTP would have, until SIGCONT.
pub fn stop_self() {
    // SAFETY: SIGSTOP takes no handler; execution goes on here after SIGCONT.
    unsafe { libc::raise(libc::SIGSTOP) };
}

extern "C" fn on_sigbus(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    const TEXT: &[u8] = b"secretvmm: error: The host could not provide a page of guest memory (SIGBUS): its memory, a \
        cgroup's limit or this user's locked-memory limit ran out; see `ulimit -l` and the host's kernel log\n";
    end(TEXT, outcome::FAILURE)
}

/// `si_code` of a SIGSYS that comes from a filter (SYS_SECCOMP of `<asm-generic/siginfo.h>`).
const FROM_FILTER: i32 = 1;
/// Where `si_syscall` lies in a SIGSYS's siginfo, in `int`s.
const SI_SYSCALL: usize = 6;

extern "C" fn on_sigsys(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel gives a handler with SA_SIGINFO a whole siginfo, of which si_code is part.
    if unsafe { (*info).si_code } != FROM_FILTER {
        return end(b"secretvmm: error: Ended by SIGSYS\n", 128 + libc::SIGSYS as u8);
    }
    // SAFETY: as above; for a filter's SIGSYS the kernel fills this member.
    let call = unsafe { *info.cast::<i32>().add(SI_SYSCALL) };
    let mut text = [0; 256];
    let mut rest = &mut text[..];
    // It has room; a number is formatted without allocating.
    let _ = writeln!(
        rest,
        "secretvmm: error: The system call {call} is forbidden to the thread that made it (seccomp); this is a bug in \
         secretvmm, which --no-seccomp works around, or an attack"
    );
    let left = rest.len();
    end(&text[..text.len() - left], outcome::BAD_SYSCALL)
}

/// The end of the process from a signal handler, with last words.
fn end(text: &[u8], code: u8) {
    terminal::restore();
    for descriptor in [Some(2), logger::descriptor()].into_iter().flatten() {
        let mut ready = libc::pollfd { fd: descriptor, events: libc::POLLOUT, revents: 0 };
        // Nobody may read it, and then it must not be waited for.
        // SAFETY: async-signal-safe; the kernel fills the structure we own.
        if unsafe { libc::poll(&raw mut ready, 1, 0) } == 1 {
            // SAFETY: async-signal-safe; the text is there.
            unsafe { libc::write(descriptor, text.as_ptr().cast(), text.len()) };
        }
    }
    // SAFETY: async-signal-safe.
    unsafe { libc::_exit(code.into()) };
}

/// All signals that [`Signals`] handles.
fn handled() -> libc::sigset_t {
    // SAFETY: sigemptyset initialises the set, whose zero value is valid memory of integers; the
    // numbers added are valid.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        for signal in ENDING.into_iter().chain([libc::SIGTSTP]) {
            libc::sigaddset(&mut set, signal);
        }
        set
    }
}
