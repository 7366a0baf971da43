// SPDX-License-Identifier: Apache-2.0
//! Starts `secretvmm` with a guest and talks to it as a person at its terminal would.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::pty::{OpenptyResult, openpty};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use secretvmm_canary::Seed;

use crate::console::Console;

/// How long a guest may take to its shell: nested emulation on a busy machine is slow.
pub const BOOT_LIMIT: Duration = Duration::from_secs(240);
/// How long a shell command or an exit may take.
pub const STEP_LIMIT: Duration = Duration::from_secs(60);

/// What the demo guest prints first, and last before its prompt.
pub const FIRST_LINE: &str = "secretvmm-guest: first user-space line";
/// What the demo guest prints when the shell follows.
pub const READY_LINE: &str = "secretvmm-guest: ready";

/// The command line that `secretvmm` gives a guest by default; a test that adds to it starts from here.
pub const CMDLINE: &str = "console=ttyS0 8250.nr_uarts=1 reboot=k panic=-1";

/// A `secretvmm` command line in the making.
#[derive(Clone, Debug)]
pub struct GuestBuilder {
    wrapper: Vec<OsString>,
    arguments: Vec<OsString>,
    /// What is added to the default command line; None: nothing is said of it.
    cmdline: Option<String>,
}

/// A running `secretvmm`. Dropping it kills it.
pub struct Guest {
    child: Child,
    /// The serial console.
    pub console: Console,
    /// What the VMM itself says.
    pub messages: Console,
    input: Option<File>,
    /// When the process was started.
    pub started: Instant,
}

/// How a VMM ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It exited with this code.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
}

/// Canary pages that a guest holds, as its `canary` program announced them.
#[derive(Clone, Copy, Debug)]
pub struct Canary {
    /// What they are derived from.
    pub seed: Seed,
    /// How many there are, each in a frame of its own.
    pub pages: u64,
}

/// Reads the line of the `canary` program, without its first word: what it planted, and the addresses of its first
/// and its last page.
///
/// # Errors
/// It says something else, or fewer frames than pages were planted.
pub fn parse_canary(line: &str) -> Result<(Canary, Vec<u64>)> {
    let value = |key: &str| line.trim().split(' ').find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
    let (Some(seed), Some(pages), Some(frames)) = (value("seed"), value("pages"), value("frames")) else {
        bail!("The guest's canary line is not understood: {line}");
    };
    let canary = Canary { seed: seed.parse()?, pages: frames.parse()? };
    if pages != frames {
        bail!("The guest planted {pages} canary pages in {frames} frames");
    }
    let address = |key: &str| u64::from_str_radix(value(key)?.trim_start_matches("0x"), 16).ok();
    let addresses = ["first_gpa", "last_gpa"].into_iter().filter_map(address).collect();
    Ok((canary, addresses))
}

impl GuestBuilder {
    /// A guest with a given kernel image, whose kernel prints errors only, since each character is an exit;
    /// everything else as `secretvmm` has it by default.
    pub fn new(kernel: impl AsRef<Path>) -> Self {
        let arguments = vec!["--kernel".into(), kernel.as_ref().into()];
        GuestBuilder { wrapper: Vec::new(), arguments, cmdline: Some(" quiet".into()) }
    }

    /// With the command line that `secretvmm` has by default.
    pub fn default_cmdline(self) -> Self {
        GuestBuilder { cmdline: None, ..self }
    }

    /// The guest that a `--config-file` describes.
    pub fn from_file(config: &Path) -> Self {
        let arguments = vec!["--config-file".into(), config.into()];
        GuestBuilder { wrapper: Vec::new(), arguments, cmdline: None }
    }

    /// No guest yet: the VMM waits for requests at a unix socket.
    pub fn api(socket: &Path) -> Self {
        let arguments = vec!["--api-sock".into(), socket.into()];
        GuestBuilder { wrapper: Vec::new(), arguments, cmdline: None }
    }

    /// Adds arguments as they are.
    pub fn arguments<S: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Guest RAM, as `--mem` takes it.
    pub fn memory(self, size: &str) -> Self {
        self.arguments(["--mem", size])
    }

    /// Number of vCPUs.
    pub fn cpus(self, count: u32) -> Self {
        self.arguments(["--cpus".to_owned(), count.to_string()])
    }

    /// Ordinary memory instead of hidden memory: the control.
    pub fn shared_memory(self) -> Self {
        self.arguments(["--backing", "shared"])
    }

    /// An initial RAM disk.
    pub fn initrd(self, path: &Path) -> Self {
        self.arguments([OsString::from("--initrd"), path.into()])
    }

    /// Parameters after the default kernel command line.
    pub fn parameters(mut self, parameters: &str) -> Self {
        let _ = write!(self.cmdline.get_or_insert_default(), " {parameters}");
        self
    }

    /// Runs the VMM under another program that ends with an exec of its arguments, such as `prlimit`.
    pub fn under<S: Into<OsString>>(mut self, wrapper: impl IntoIterator<Item = S>) -> Self {
        self.wrapper = wrapper.into_iter().map(Into::into).collect();
        self
    }

    fn command(&self) -> Command {
        let mut words = self.wrapper.iter().cloned().chain([OsString::from("secretvmm")]);
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words).args(&self.arguments);
        if let Some(added) = &self.cmdline {
            command.arg("--cmdline").arg(format!("{CMDLINE}{added}"));
        }
        command.stderr(Stdio::piped());
        command
    }

    /// Starts it with pipes for its console.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn start(&self) -> Result<Guest> {
        let mut command = self.command();
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let started = Instant::now();
        let mut child = command.spawn().with_context(|| format!("Cannot start {command:?}"))?;
        let output = child.stdout.take().context("No console output")?;
        let input = child.stdin.take().map(|stdin| File::from(OwnedFd::from(stdin)));
        Guest::assemble(child, Console::collect(output), input, started)
    }

    /// Starts it on a new terminal; returns the terminal's inner end too, to look at its settings.
    ///
    /// # Errors
    /// There is no terminal, or the program cannot be started.
    pub fn start_on_terminal(&self) -> Result<(Guest, OwnedFd)> {
        let OpenptyResult { master, slave } = openpty(None, None).context("Cannot open a terminal")?;
        let mut command = self.command();
        command.stdin(slave.try_clone()?).stdout(slave.try_clone()?);
        let started = Instant::now();
        let child = command.spawn().with_context(|| format!("Cannot start {command:?}"))?;
        let master = File::from(master);
        let console = Console::collect(master.try_clone()?);
        Ok((Guest::assemble(child, console, Some(master), started)?, slave))
    }
}

impl Guest {
    fn assemble(mut child: Child, console: Console, input: Option<File>, started: Instant) -> Result<Self> {
        let messages = Console::collect(child.stderr.take().context("No messages")?);
        Ok(Guest { child, console, messages, input, started })
    }

    /// Waits for the demo guest's shell.
    ///
    /// # Errors
    /// It did not come in [`BOOT_LIMIT`]; quotes the console and the VMM's messages.
    pub fn wait_for_shell(&mut self) -> Result<()> {
        self.expect(READY_LINE, BOOT_LIMIT)?;
        self.expect("# ", STEP_LIMIT)?;
        Ok(())
    }

    /// Waits for a text on the console.
    ///
    /// # Errors
    /// As [`Console::expect`], with the VMM's messages.
    pub fn expect(&mut self, text: &str, limit: Duration) -> Result<String> {
        let said = self.console.expect(text, limit);
        said.with_context(|| format!("secretvmm's own messages:\n{}", self.messages.text()))
    }

    /// Waits for the line in which the guest's `canary` program says what it planted.
    ///
    /// # Errors
    /// It did not come, or fewer frames than pages were planted.
    pub fn wait_for_canary(&mut self) -> Result<(Canary, String)> {
        self.expect("canary: ", BOOT_LIMIT)?;
        let line = self.expect("\n", STEP_LIMIT)?.trim().to_owned();
        let (canary, _) = parse_canary(&line)?;
        Ok((canary, line))
    }

    /// Runs a shell command in the guest and returns what it printed.
    ///
    /// # Errors
    /// The prompt did not come back in [`STEP_LIMIT`].
    pub fn shell(&mut self, command: &str) -> Result<String> {
        // The marks are typed in two halves, so that the echo (which the shell wraps) is not taken for them.
        self.type_line(&format!("echo be''gin; {command}; echo do''ne"))?;
        self.expect("begin", STEP_LIMIT)?;
        let said = self.expect("done", STEP_LIMIT)?;
        self.expect("# ", STEP_LIMIT)?;
        Ok(said.trim_end_matches("done").trim().replace('\r', ""))
    }

    /// Types a line at the console.
    ///
    /// # Errors
    /// The VMM is gone.
    pub fn type_line(&mut self, line: &str) -> Result<()> {
        self.type_bytes(format!("{line}\n").as_bytes())
    }

    /// Types bytes at the console.
    ///
    /// # Errors
    /// The VMM is gone.
    pub fn type_bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.input.as_mut().context("The console's input is closed")?.write_all(bytes).context("Cannot type")
    }

    /// Closes the console's input.
    pub fn close_input(&mut self) {
        self.input = None;
    }

    /// The VMM's process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends the VMM a signal.
    ///
    /// # Errors
    /// The VMM is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).with_context(|| format!("Cannot send {signal}"))
    }

    /// Whether the VMM still runs.
    ///
    /// # Errors
    /// Its state cannot be asked.
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Waits until the VMM ends by itself.
    ///
    /// # Errors
    /// It did not within `limit`; quotes the console.
    pub fn wait(&mut self, limit: Duration) -> Result<Ending> {
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                return match (status.code(), status.signal()) {
                    (Some(code), _) => Ok(Ending::Code(code)),
                    (None, Some(signal)) => Ok(Ending::Signal(signal)),
                    (None, None) => bail!("The VMM ended in an unknown way: {status:?}"),
                };
            }
            thread::sleep(Duration::from_millis(10));
        }
        bail!("secretvmm still runs after {limit:?}; the console:\n{}", self.console.text())
    }

    /// Everything the VMM itself said, to its end.
    pub fn all_messages(&self) -> String {
        self.messages.text_to_end(STEP_LIMIT)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
