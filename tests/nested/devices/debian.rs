// SPDX-License-Identifier: Apache-2.0
//! Debian with systemd on a disk: booted, reached over network and vsock, paused a hundred times, powered off by API.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use secretvmm_tests::artifacts::{DEBIAN_INITRD, DEBIAN_ROOTFS, GUEST_BZIMAGE, STOCK_CLOUD_VMLINUZ, artifact};
use secretvmm_tests::console::Console;
use secretvmm_tests::guest::{CMDLINE, STEP_LIMIT};
use secretvmm_tests::network::Tap;
use secretvmm_tests::{report, vsock};
use serde_json::json;

use super::vm::Vm;
use crate::support::{Scratch, assert_hidden, on_clean_host};

const HOST: &str = "172.16.0.1";
const GUEST: &str = "172.16.0.2";
/// systemd starts slowly where each instruction is emulated twice.
const SYSTEMD_LIMIT: Duration = Duration::from_secs(420);

#[test]
fn debian_on_our_kernel_lives_a_whole_life() -> Result<()> {
    whole_life("debian", &artifact(GUEST_BZIMAGE)?, None, "SendPowerButton")
}

#[test]
fn debian_on_its_own_cloud_kernel_lives_a_whole_life() -> Result<()> {
    whole_life("debian-cloud", &artifact(STOCK_CLOUD_VMLINUZ)?, Some(&artifact(DEBIAN_INITRD)?), "SendCtrlAltDel")
}

fn whole_life(name: &str, kernel: &Path, initrd: Option<&Path>, ending: &str) -> Result<()> {
    on_clean_host(|| {
        let mut vm = Vm::new(name)?;
        let tap = Tap::new("tap-debian", &format!("{HOST}/24"))?;
        let _dhcp = tap.serve_address(GUEST, &vm.scratch.path(""))?;
        let uds = vm.scratch.path("v.sock");
        vm.boots(kernel, CMDLINE, initrd)?;
        vm.put("/machine-config", &json!({ "vcpu_count": 1, "mem_size_mib": 384 }))?;
        let root = json!({ "drive_id": "root", "path_on_host": disk(&vm.scratch)?, "is_root_device": true,
                           "is_read_only": false });
        vm.put("/drives/root", &root)?;
        vm.put("/network-interfaces/eth0", &json!({ "iface_id": "eth0", "host_dev_name": tap.name }))?;
        vm.put("/vsock", &json!({ "guest_cid": 3, "uds_path": uds }))?;
        vm.put("/entropy", &json!({}))?;
        let begun = Instant::now();
        vm.action("InstanceStart")?;
        vm.guest.expect("debian login: ", SYSTEMD_LIMIT)?;
        report::figure(&format!("{name}, start to login"), format!("{:.1}", begun.elapsed().as_secs_f64()), "s");
        assert_hidden(&vm.guest)?;

        let mut session = Session::log_in(&uds)?;
        let said = session.shell("systemctl is-system-running; findmnt -no SOURCE,FSTYPE /; uname -r")?;
        ensure!(said.contains("/dev/vda ext4"), "The root file system: {said}");
        networks(&mut session)?;
        guest_to_host(&mut session, &uds)?;
        echoes(vsock::connect(&uds, 7)?)?;

        let begun = Instant::now();
        for _ in 0..100 {
            vm.set_state("Paused")?;
            vm.set_state("Resumed")?;
        }
        report::figure(&format!("{name}, pause and resume"), begun.elapsed().as_millis() / 100, "ms");
        ensure!(session.shell("echo still here")? == "still here", "The session did not survive");
        echoes(TcpStream::connect((GUEST, 7))?)?;
        assert_hidden(&vm.guest)?;

        session.shell("sync; echo written >/root/note; sync")?;
        vm.action(ending)?;
        vm.ends_well()
    })
}

/// A copy of the image that the guest may write to.
fn disk(scratch: &Scratch) -> Result<std::path::PathBuf> {
    let path = scratch.path("rootfs.ext4");
    let copy = Command::new("cp").arg("--sparse=always").arg(artifact(DEBIAN_ROOTFS)?).arg(&path).status()?;
    ensure!(copy.success(), "Cannot copy the image: {copy}");
    File::options().write(true).open(&path)?;
    Ok(path)
}

/// The address came by DHCP; packets and connections go both ways.
fn networks(session: &mut Session) -> Result<()> {
    let deadline = Instant::now() + STEP_LIMIT;
    while !session.shell("ip -4 -brief address")?.contains(GUEST) {
        ensure!(
            Instant::now() < deadline,
            "No address: {}",
            session.shell("ip address; networkctl --no-pager status")?
        );
        std::thread::sleep(Duration::from_millis(200));
    }
    let ping = Command::new("busybox").args(["ping", "-q", "-c", "2", "-W", "20", GUEST]).output()?;
    ensure!(ping.status.success(), "The host's ping: {}", String::from_utf8_lossy(&ping.stdout));
    let said = session.shell(&format!("ping -q -c 2 -W 20 {HOST}"))?;
    ensure!(said.contains("2 received"), "The guest's ping: {said}");

    echoes(TcpStream::connect((GUEST, 7))?)?;
    let listener = TcpListener::bind((HOST, 5000))?;
    session.type_line(&format!("echo over TCP | socat -u - TCP:{HOST}:5000"))?;
    let mut said = String::new();
    listener.accept()?.0.read_to_string(&mut said)?;
    ensure!(said == "over TCP\n", "The guest's connection said {said:?}");
    Ok(())
}

fn guest_to_host(session: &mut Session, uds: &Path) -> Result<()> {
    let listener = vsock::listen(uds, 5000)?;
    session.type_line("echo over vsock | socat -u - VSOCK-CONNECT:2:5000")?;
    let mut said = String::new();
    listener.accept()?.0.read_to_string(&mut said)?;
    ensure!(said == "over vsock\n", "The guest's connection said {said:?}");
    Ok(())
}

/// 1 MiB comes back as it went.
fn echoes(mut stream: impl Read + Write) -> Result<()> {
    let chunk: Vec<u8> = (0..64 << 10).map(|index| (index % 249) as u8).collect();
    for _ in 0..16 {
        stream.write_all(&chunk).context("Cannot send to the echo")?;
        let mut back = vec![0; chunk.len()];
        stream.read_exact(&mut back).context("No echo")?;
        ensure!(back == chunk, "The echo is another");
    }
    Ok(())
}

/// A login over vsock.
struct Session {
    stream: UnixStream,
    said: Console,
}

impl Session {
    fn log_in(uds: &Path) -> Result<Self> {
        let deadline = Instant::now() + STEP_LIMIT;
        // The service may start after the console's login.
        let stream = loop {
            match vsock::connect(uds, 22) {
                Ok(stream) => break stream,
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(200)),
            }
        };
        // The collector waits as long as the session lives.
        stream.set_read_timeout(None)?;
        let said = Console::collect(stream.try_clone()?);
        let mut session = Session { stream, said };
        session.said.expect("login: ", STEP_LIMIT)?;
        session.type_line("root")?;
        session.said.expect("Password: ", STEP_LIMIT)?;
        session.type_line("secret")?;
        session.said.expect("# ", STEP_LIMIT)?;
        Ok(session)
    }

    fn type_line(&mut self, line: &str) -> Result<()> {
        self.stream.write_all(format!("{line}\n").as_bytes()).context("The session is closed")
    }

    /// Runs a command and returns what it printed.
    fn shell(&mut self, command: &str) -> Result<String> {
        // The marks are typed in two halves, so that the echo is not taken for them.
        self.type_line(&format!("echo be''gin; {command}; echo do''ne"))?;
        self.said.expect("begin", STEP_LIMIT)?;
        let said = self.said.expect("done", STEP_LIMIT)?;
        self.said.expect("# ", STEP_LIMIT)?;
        Ok(said.trim_end_matches("done").replace('\r', "").trim().to_owned())
    }
}
