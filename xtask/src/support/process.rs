// SPDX-License-Identifier: Apache-2.0
//! Child processes: output wanted, output logged with progress, or passed on.
//!
//! Each is told to end when xtask ends, in whatever way: on SIGTERM make ends its compilers.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;

use super::orphan::end_with_parent;
use super::paths::create_dir;
use super::progress::Progress;

/// How many lines of a log an error quotes.
const TAIL: usize = 20;

/// Runs a command and gives its standard output, trimmed.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let name = name(command);
    let output = captured(command.stderr(Stdio::piped()))?;
    if !output.status.success() {
        bail!("{name} failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    let text = String::from_utf8(output.stdout).with_context(|| format!("{name} printed no text"))?;
    Ok(text.trim().to_owned())
}

/// Runs a command on this process's own terminal; fails if it does.
pub(crate) fn passed_through(command: &mut Command) -> Result<()> {
    let status = status(command)?;
    if !status.success() {
        bail!("{} failed ({status})", name(command));
    }
    Ok(())
}

/// Runs a command without input, its standard error where it was sent; gives all of it, whatever the exit code.
pub(crate) fn captured(command: &mut Command) -> Result<Output> {
    spawn(command.stdin(Stdio::null()).stdout(Stdio::piped()))?.wait_with_output().context("Cannot wait for a command")
}

/// Runs a command; gives how it ended.
pub(crate) fn status(command: &mut Command) -> Result<ExitStatus> {
    spawn(command)?.wait().with_context(|| format!("Cannot wait for {}", name(command)))
}

/// Starts a command that is told to end when this thread does.
fn spawn(command: &mut Command) -> Result<Child> {
    end_with_parent(command, Signal::SIGTERM);
    #[expect(clippy::disallowed_methods, reason = "It ends with its parent")]
    command.spawn().with_context(|| format!("Cannot run {}", name(command)))
}

/// Runs a slow command with all its output in `log`, showing a count of the
/// lines that `counts` accepts as `812 objects`.
pub(crate) fn logged(
    command: &mut Command,
    log: &Path,
    progress: &mut Progress,
    counts: fn(&str) -> bool,
    unit: &str,
) -> Result<u64> {
    if let Some(dir) = log.parent() {
        create_dir(dir)?;
    }
    let mut file = File::options()
        .create(true)
        .append(true)
        .open(log)
        .with_context(|| format!("Cannot write {}", log.display()))?;
    let mut count = 0;
    let status = for_each_line(command, |line| {
        if let Some(line) = line {
            file.write_all(line).with_context(|| format!("Cannot write {}", log.display()))?;
            count += u64::from(counts(&String::from_utf8_lossy(line)));
        }
        let detail = if unit.is_empty() { String::new() } else { format!("{count} {unit}") };
        progress.update(&detail);
        Ok(())
    })?;
    if !status.success() {
        eprintln!("\n{}", tail(log));
        bail!("{} failed ({status}); the whole log is {}", name(command), log.display());
    }
    Ok(count)
}

/// Runs a command with stdout and stderr as one stream of lines. `each` gets a
/// line with its newline, or nothing when a second went by without one.
pub(crate) fn for_each_line(
    command: &mut Command,
    mut each: impl FnMut(Option<&[u8]>) -> Result<()>,
) -> Result<ExitStatus> {
    let name = name(command);
    let (ours, theirs) = UnixStream::pair().context("Cannot create a socket pair")?;
    ours.set_read_timeout(Some(Duration::from_secs(1))).context("Cannot set a time limit on a socket")?;
    let stderr = OwnedFd::from(theirs.try_clone().context("Cannot duplicate a socket")?);
    command.stdin(Stdio::null()).stdout(OwnedFd::from(theirs)).stderr(stderr);
    let mut child = spawn(command)?;
    // The command holds our copies of its ends; without them the stream ends.
    command.stdout(Stdio::null()).stderr(Stdio::null());

    let mut reader = BufReader::new(ours);
    let mut line = Vec::new();
    loop {
        match reader.read_until(b'\n', &mut line) {
            Ok(0) if line.is_empty() => break,
            Ok(_) => {
                each(Some(&line))?;
                line.clear();
            }
            // What was read so far stays in `line`.
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => each(None)?,
            Err(error) => return Err(error).with_context(|| format!("Cannot read the output of {name}")),
        }
    }
    child.wait().with_context(|| format!("Cannot wait for {name}"))
}

/// The last lines of a text file, or why there are none.
pub(crate) fn tail(path: &Path) -> String {
    match fs::read(path) {
        Ok(bytes) => last_lines(&String::from_utf8_lossy(&bytes), TAIL),
        Err(error) => format!("(no log at {}: {error})", path.display()),
    }
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// The program's name, for messages.
fn name(command: &Command) -> String {
    Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn last_lines_keeps_the_end() {
        assert_eq!(last_lines("a\nb\r\nc\n", 2), "b\nc");
        assert_eq!(last_lines("", 2), "");
    }

    #[test]
    fn for_each_line_joins_both_streams_and_keeps_an_unfinished_line() {
        let mut lines = Vec::new();
        let status = for_each_line(Command::new("sh").args(["-c", "echo a; echo b >&2; printf c; exit 3"]), |line| {
            lines.extend(line.map(<[u8]>::to_vec));
            Ok(())
        })
        .unwrap();
        assert_eq!(lines, [b"a\n".to_vec(), b"b\n".to_vec(), b"c".to_vec()]);
        assert_eq!(status.code(), Some(3));
    }

    #[test]
    fn output_of_a_failing_command_quotes_its_stderr() {
        let error = output(Command::new("sh").args(["-c", "echo why >&2; exit 1"])).unwrap_err();
        assert!(error.to_string().contains("why"), "{error}");
    }
}
