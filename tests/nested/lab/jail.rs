// SPDX-License-Identifier: Apache-2.0
//! `secretvmm` started by `secretvmm-jailer`: another user, an empty root, limits and a control group of its own.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use secretvmm_api::client::Client;
use secretvmm_tests::artifacts::{GUEST_BZIMAGE, artifact};
use secretvmm_tests::console::Console;
use secretvmm_tests::guest::{BOOT_LIMIT, CMDLINE, READY_LINE, STEP_LIMIT};
use secretvmm_tests::host::fdinfo;
use serde_json::{Value, json};

use crate::support::{Scratch, on_clean_host, program};

/// A user and group that the host has no name for.
const USER: u32 = 4242;
/// Where control groups of version 2 are on the nested host.
const CGROUPS: &str = "/sys/fs/cgroup";

/// The command line of a jail, and where it is.
pub(crate) struct Jail {
    scratch: Scratch,
    id: &'static str,
}

impl Jail {
    pub(crate) fn new(id: &'static str) -> Result<Self> {
        Ok(Jail { scratch: Scratch::new(id)?, id })
    }

    fn base(&self) -> PathBuf {
        self.scratch.path("jails")
    }

    fn root(&self) -> PathBuf {
        self.base().join("secretvmm").join(self.id).join("root")
    }

    /// The jailer with what every call has; `more` is its own, and what is behind `--` the VMM's.
    pub(crate) fn command(&self, more: &[&str]) -> Result<Command> {
        let mut command = Command::new(program("secretvmm-jailer")?);
        command.args(["--id", self.id, "--uid", &USER.to_string(), "--gid", &USER.to_string()]);
        command.arg("--exec-file").arg(program("secretvmm")?).arg("--chroot-base-dir").arg(self.base()).args(more);
        Ok(command)
    }

    /// The VMM's process id, as the jail has it.
    pub(crate) fn pid(&self) -> Result<u32> {
        Ok(fs::read_to_string(self.root().join("secretvmm.pid"))?.trim().parse()?)
    }

    /// Ends the VMM.
    pub(crate) fn end(&self, pid: u32) -> Result<()> {
        kill(Pid::from_raw(pid.cast_signed()), Signal::SIGTERM)?;
        let deadline = Instant::now() + STEP_LIMIT;
        while Path::new(&format!("/proc/{pid}/ns")).exists() {
            ensure!(Instant::now() < deadline, "SIGTERM does not end the VMM");
            sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Waits for the API.
    pub(crate) fn api(&self) -> Result<Client> {
        let socket = self.root().join("run/firecracker.socket");
        let deadline = Instant::now() + STEP_LIMIT;
        while !socket.exists() {
            ensure!(Instant::now() < deadline, "The VMM in the jail serves no API at {}", socket.display());
            sleep(Duration::from_millis(20));
        }
        Ok(Client::new(&socket)?)
    }

    /// Waits for the API and describes the demo guest, whose kernel the caller puts into the jail, as with Firecracker.
    fn describe_guest(&self) -> Result<Client> {
        let api = self.api()?;
        let kernel = self.root().join("kernel");
        fs::copy(artifact(GUEST_BZIMAGE)?, &kernel)?;
        std::os::unix::fs::chown(&kernel, Some(USER), Some(USER))?;
        api.put("/boot-source", &json!({ "kernel_image_path": "/kernel", "boot_args": format!("{CMDLINE} quiet") }))?;
        api.put("/machine-config", &json!({ "vcpu_count": 1, "mem_size_mib": 128 }))?;
        Ok(api)
    }
}

/// What `/proc/PID/status` says behind a key.
pub(crate) fn status(pid: u32, key: &str) -> Result<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    Ok(value.with_context(|| format!("No {key} in:\n{text}"))?.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// The VMM's view of its guest's memory has to be the one that root has from outside.
fn assert_tells_what_is(api: &Client, pid: u32) -> Result<()> {
    let told: Value = api.get("/memory")?;
    let seen = fdinfo::of_process(pid)?;
    ensure!(seen.pages > 0 && seen.direct_mapped == 0, "{seen:?}");
    ensure!(told["backing"] == "secret" && told["kernel"]["direct_mapped"] == 0, "{told}");
    ensure!(told["kernel"]["pages"].as_u64() > Some(0), "{told}");
    Ok(())
}

struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn vmm_in_a_jail_runs_its_guest_on_secret_memory_and_sees_nothing_of_the_host() -> Result<()> {
    on_clean_host(|| {
        let jail = Jail::new("jail")?;
        let settings = ["--cgroup-version", "2", "--cgroup", "memory.max=1G", "--resource-limit", "no-file=500"];
        let mut command = jail.command(&settings)?;
        command.args(["--", "--api-sock", "/run/firecracker.socket"]).env("SECRET", "of the caller");
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let mut output = Console::collect(child.stdout.take().context("No console")?);
        let messages = Console::collect(child.stderr.take().context("No messages")?);
        let child = Ends(child);
        let pid = child.0.id();
        let api = jail.describe_guest().with_context(|| messages.text())?;
        api.put("/actions", &json!({ "action_type": "InstanceStart" })).with_context(|| messages.text())?;
        output.expect(READY_LINE, BOOT_LIMIT).with_context(|| messages.text())?;

        ensure!(fs::read_to_string(jail.root().join("secretvmm.pid"))? == pid.to_string(), "The pid file is wrong");
        ensure!(status(pid, "Uid")? == format!("{USER} {USER} {USER} {USER}"), "{}", status(pid, "Uid")?);
        ensure!(status(pid, "CapEff")?.trim_matches('0').is_empty(), "{}", status(pid, "CapEff")?);
        ensure!(fs::read(format!("/proc/{pid}/environ"))?.is_empty(), "The caller's environment is there");
        ensure!(
            fs::read_to_string(format!("/proc/{pid}/cgroup"))?.contains("/secretvmm/jail"),
            "Another control group"
        );
        // Its files in /proc are root's: nobody of the same user reads its memory or makes it dump core.
        ensure!(fs::metadata(format!("/proc/{pid}/environ"))?.uid() == 0, "The VMM is open to its own user");
        let limits = fs::read_to_string(format!("/proc/{pid}/limits"))?;
        ensure!(limits.lines().any(|line| line.starts_with("Max open files") && line.contains(" 500 ")), "{limits}");
        let seen = PathBuf::from(format!("/proc/{pid}/root"));
        // The control: the same look at this process finds the host's files.
        ensure!(Path::new("/proc/self/root/etc/passwd").exists() && !seen.join("etc").exists(), "The host's files");
        ensure!(!seen.join("proc/sys").exists() && !seen.join("sys").exists(), "The host's kernel can be set");
        assert_tells_what_is(&api, pid)?;

        drop(child);
        let group = Path::new(CGROUPS).join("secretvmm/jail");
        let deadline = Instant::now() + STEP_LIMIT;
        while fs::remove_dir(&group).is_err() {
            ensure!(Instant::now() < deadline, "Something is left in {}", group.display());
            sleep(Duration::from_millis(20));
        }
        Ok(fs::remove_dir(Path::new(CGROUPS).join("secretvmm"))?)
    })
}

#[test]
fn daemon_runs_by_itself_and_its_caller_goes_on() -> Result<()> {
    on_clean_host(|| {
        let jail = Jail::new("daemon")?;
        let mut command = jail.command(&["--daemonize", "--", "--api-sock", "/run/firecracker.socket"])?;
        let output = command.stdin(Stdio::null()).output()?;
        ensure!(output.status.success(), "{output:?}");
        let api = jail.describe_guest()?;
        api.put("/actions", &json!({ "action_type": "InstanceStart" }))?;
        let pid = jail.pid()?;
        ensure!(fs::read_link(format!("/proc/{pid}/fd/2"))? == Path::new("/dev/null"), "It holds the caller's stderr");
        assert_tells_what_is(&api, pid)?;
        jail.end(pid)
    })
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn what_cannot_be_is_refused_on_one_line_and_leaves_nothing() -> Result<()> {
    on_clean_host(|| {
        let jail = Jail::new("refused")?;
        let dynamic = program("ls")?;
        let dynamic = dynamic.to_str().context("A path that is no text")?;
        for (more, says) in [
            (&["--exec-file", dynamic][..], "dynamic loader"),
            (&["--exec-file", "/etc/passwd"], "not an ELF file"),
            (&["--exec-file", "/nowhere"], "--exec-file"),
            (&["--uid", "4294967295"], "cannot be taken"),
            (&["--netns", "/etc/passwd"], "ip netns list"),
            (&["--cgroup", "pids.max=9"], "--cgroup-version 2"),
            (&["--cgroup-version", "2", "--parent-cgroup", "not-there"], "does not exist"),
            (&["--cgroup-version", "2", "--parent-cgroup", "../up", "--cgroup", "memory.max=1G"], "relative path"),
            (&["--cgroup-version", "2", "--cgroup", "memory.max=much"], "control group"),
            (&["--cgroup-version", "2", "--cgroup", "nothing.max=1"], "controller"),
        ] {
            // A flag that is given twice is an error of its own: the first one goes.
            let mut command = jail.command(more)?;
            if more[0] == "--exec-file" || more[0] == "--uid" {
                let kept: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
                let at = kept.iter().position(|word| word == more[0]).context("No such flag")?;
                let rest = kept.iter().enumerate().filter(|(index, _)| *index != at && *index != at + 1);
                let mut again = Command::new(command.get_program());
                again.args(rest.map(|(_, word)| word));
                command = again;
            }
            let output = command.stdin(Stdio::null()).output()?;
            let said = text(&output);
            ensure!(output.status.code() == Some(1), "{more:?}: {output:?}");
            ensure!(said.lines().count() == 1 && said.contains(says), "{more:?} says: {said}");
            ensure!(!jail.base().exists(), "{more:?} leaves {}", jail.base().display());
            ensure!(!Path::new(CGROUPS).join("secretvmm").exists(), "{more:?} leaves a control group");
        }
        Ok(())
    })
}

#[test]
fn jail_that_was_used_is_not_used_again() -> Result<()> {
    on_clean_host(|| {
        let jail = Jail::new("again")?;
        fs::create_dir_all(jail.root())?;
        let mut first = jail.command(&["--", "--version"])?;
        ensure!(first.output()?.status.success(), "A folder that the caller has prepared is refused");
        let before = fs::read_dir(jail.root())?.count();
        let output = first.output()?;
        ensure!(output.status.code() == Some(1) && text(&output).contains("used before"), "{output:?}");
        ensure!(fs::read_dir(jail.root())?.count() == before, "What was there has changed");
        Ok(())
    })
}
