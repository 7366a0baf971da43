// SPDX-License-Identifier: Apache-2.0
//! A public Firecracker client, as it comes from the package index, with `secretvmm` where it looks for `firecracker`.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, ensure};
use secretvmm_tests::artifacts::{GUEST_BZIMAGE, PYTHON_FIRECRACKER, artifact};
use secretvmm_tests::host::fdinfo;
use secretvmm_tests::network::{Namespace, ip};

use crate::support::{Scratch, on_clean_host};

/// Where the client wants its VMM.
const BINARY: &str = "/usr/local/bin/firecracker";
/// Where it keeps its VMs.
const VMS: &str = "/var/lib/firecracker";
/// The host as its neighbours see it, and one of them (RFC 5737).
const HOST: &str = "192.0.2.2";
const NEIGHBOUR: &str = "192.0.2.1";

/// First process of the guest: a web server with what it found out.
const INIT: &str = "#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
ip route add 169.254.169.254 dev eth0
ask() { printf \"$1\" | nc 169.254.169.254 80 | tail -n 1; }
token=$(ask 'PUT /latest/api/token HTTP/1.1\\r\\nHost: m\\r\\nX-metadata-token-ttl-seconds: 60\\r\\nContent-Length: 0\\r\\n\\r\\n')
ask \"GET /latest/user-data HTTP/1.1\\r\\nHost: m\\r\\nX-metadata-token: $token\\r\\n\\r\\n\" >/www/user-data
wget -q -O /www/outside http://192.0.2.1/outside
echo hello from the guest >/www/hello
exec httpd -f -p 80 -h /www
";

#[test]
fn firecracker_python_creates_pauses_and_deletes_a_vm() -> Result<()> {
    on_clean_host(|| {
        let scratch = Scratch::new("client")?;
        // The world outside: a neighbour with a web server, to which the default route leads.
        let world = Namespace::new("world", "eth0", &format!("{HOST}/24"), &format!("{NEIGHBOUR}/24"))?;
        ip(&format!("route add default via {NEIGHBOUR}"))?;
        ip(&format!("-n world route add 172.16.0.0/24 via {HOST}"))?;
        fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
        let pages = scratch.path("pages");
        fs::create_dir_all(&pages)?;
        fs::write(pages.join("outside"), "hello from outside\n")?;
        let mut server = world.command("busybox");
        let _server = Process(server.args(["httpd", "-f", "-p", "80", "-h"]).arg(&pages).spawn()?);

        let binary = which("secretvmm")?;
        symlink(binary, BINARY)?;
        let python = artifact(PYTHON_FIRECRACKER)?;
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("python");
        let mut stand_ins =
            Steps::start(Command::new(&python).arg(scripts.join("stand_ins.py")).arg(HOST).arg(scratch.path("")))?;
        stand_ins.expect("ready")?;

        let mut command = Command::new(&python);
        command.arg(scripts.join("client.py")).arg(artifact(GUEST_BZIMAGE)?).arg(root_file_system(&scratch)?);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.env("REQUESTS_CA_BUNDLE", scratch.path("authority.pem"));
        let mut client = Steps::start(&mut command)?;

        let said = client.expect("create: ")?;
        ensure!(said.ends_with(" created"), "{said}");
        let id = said.split(' ').nth(2).context("No id")?.to_owned();
        let pid: u32 = fs::read_to_string(format!("{VMS}/{id}/firecracker.pid"))?.trim().parse()?;
        let info = fdinfo::of_process(pid)?;
        ensure!(info.pages > 0 && info.direct_mapped == 0, "Its memory is not hidden: {info:?}");

        ensure!(wget(&mut Command::new("busybox"))? == "hello from the guest\n", "Not the guest's page");
        let said = get(&mut world.command("busybox"), "http://172.16.0.2/hello")?;
        ensure!(said == "hello from the guest\n", "The neighbour got {said:?}");
        let page = |name: &str| get(&mut Command::new("busybox"), &format!("http://172.16.0.2/{name}"));
        ensure!(page("outside")? == "hello from outside\n", "The guest did not get out");
        ensure!(page("user-data")? == "hello from the host", "The guest's metadata: {:?}", page("user-data")?);

        ensure!(client.next("list: ")?.contains(&id), "It is not in the list");
        ensure!(client.next("config: ")?.contains("boot-source"), "No configuration");
        client.next("pause: ")?;
        client.next("resume: ")?;
        ensure!(page("hello")? == "hello from the guest\n", "The guest did not go on");
        let said = client.next("delete: ")?;
        ensure!(said.ends_with(" is deleted"), "{said}");
        ensure!(!Path::new(VMS).join(&id).exists(), "It left its folder");
        client.ends_well()?;
        let gone = fdinfo::of_process(pid).is_err();
        ensure!(gone, "The VMM still runs");
        Ok(())
    })
}

/// A small disk whose guest serves pages.
fn root_file_system(scratch: &Scratch) -> Result<PathBuf> {
    let (root, image) = (scratch.path("root"), scratch.path("rootfs.ext4"));
    for folder in ["bin", "dev", "proc", "sbin", "sys", "tmp", "www"] {
        fs::create_dir_all(root.join(folder))?;
    }
    fs::copy("/bin/busybox", root.join("bin/busybox"))?;
    let init = root.join("sbin/init");
    fs::write(&init, INIT)?;
    fs::set_permissions(&init, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let made = Command::new("mke2fs").args(["-q", "-t", "ext4", "-d"]).arg(&root).arg(&image).arg("16M").status()?;
    ensure!(made.success(), "mke2fs: {made}");
    Ok(image)
}

/// The guest's greeting, once its server is up.
fn wget(busybox: &mut Command) -> Result<String> {
    let limit = secretvmm_tests::guest::BOOT_LIMIT.as_secs().to_string();
    busybox.args(["timeout", &limit, "busybox", "sh", "-c"]);
    busybox.arg("until busybox wget -q -O - http://172.16.0.2/hello 2>/dev/null; do sleep 0.2; done");
    output(busybox)
}

fn get(busybox: &mut Command, url: &str) -> Result<String> {
    output(busybox.args(["wget", "-q", "-O", "-", url]))
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("Cannot run {command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn which(program: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join(program)).find(|path| path.is_file());
    found.with_context(|| format!("{program} is not in PATH"))
}

/// A child that is killed when dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A program that prints a line for each step and goes on when it gets one.
struct Steps {
    process: Process,
    said: BufReader<ChildStdout>,
}

impl Steps {
    fn start(command: &mut Command) -> Result<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let said = BufReader::new(child.stdout.take().context("No output")?);
        Ok(Steps { process: Process(child), said })
    }

    /// Reads up to the line that starts with `prefix`.
    fn expect(&mut self, prefix: &str) -> Result<String> {
        let mut all = String::new();
        loop {
            let mut line = String::new();
            let read = self.said.read_line(&mut line)?;
            ensure!(read > 0, "It ended before {prefix:?}:\n{all}");
            if line.starts_with(prefix) {
                return Ok(line.trim_end().to_owned());
            }
            all.push_str(&line);
        }
    }

    /// Lets it go on, and reads up to the line that starts with `prefix`.
    fn next(&mut self, prefix: &str) -> Result<String> {
        self.process.0.stdin.as_mut().context("No input")?.write_all(b"\n")?;
        self.expect(prefix)
    }

    fn ends_well(mut self) -> Result<()> {
        drop(self.process.0.stdin.take());
        let status = self.process.0.wait()?;
        ensure!(status.success(), "It ended with {status}");
        Ok(())
    }
}
