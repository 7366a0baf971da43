// SPDX-License-Identifier: Apache-2.0
//! The host's side of guests' networks, made with `ip`.

use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};

/// A TAP device with an address, gone when dropped.
pub struct Tap {
    /// Its name.
    pub name: String,
}

impl Tap {
    /// Makes a TAP that is up; `address` with its prefix length, such as `172.16.0.1/24`.
    ///
    /// # Errors
    /// `ip` fails, because there is such a device already, for example.
    pub fn new(name: &str, address: &str) -> Result<Self> {
        ip(&format!("tuntap add {name} mode tap"))?;
        let tap = Tap { name: name.to_owned() };
        ip(&format!("addr add {address} dev {name}"))?;
        ip(&format!("link set {name} up"))?;
        Ok(tap)
    }

    /// Hands out `address` to whoever asks on this TAP, by DHCP, as long as the child that is returned lives.
    ///
    /// # Errors
    /// busybox cannot be run.
    pub fn serve_address(&self, address: &str, folder: &std::path::Path) -> Result<Dhcp> {
        let config = folder.join("udhcpd.conf");
        let leases = folder.join("leases");
        std::fs::write(&leases, "")?;
        let text = format!(
            "interface {}\nstart {address}\nend {address}\nlease_file {}\npidfile {}\noption subnet 255.255.255.0\n",
            self.name,
            leases.display(),
            folder.join("udhcpd.pid").display(),
        );
        std::fs::write(&config, text)?;
        let mut command = Command::new("busybox");
        command.args(["udhcpd", "-f"]).arg(&config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().map(Dhcp).context("Cannot start udhcpd")
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        // It goes with the nested host at the latest.
        let _ = ip(&format!("link delete {}", self.name));
    }
}

/// A DHCP server, ended when dropped.
pub struct Dhcp(Child);

impl Drop for Dhcp {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A network namespace, joined to the host by a veth pair; both are gone when dropped.
pub struct Namespace {
    name: String,
    link: String,
}

impl Namespace {
    /// Makes the namespace `name` with `inside` as its address and `outside` as the host's address of the device
    /// `link`, each with a prefix length.
    ///
    /// # Errors
    /// `ip` fails.
    pub fn new(name: &str, link: &str, outside: &str, inside: &str) -> Result<Self> {
        ip(&format!("netns add {name}"))?;
        let namespace = Namespace { name: name.to_owned(), link: link.to_owned() };
        ip(&format!("link add {link} type veth peer name uplink netns {name}"))?;
        ip(&format!("addr add {outside} dev {link}"))?;
        ip(&format!("link set {link} up"))?;
        ip(&format!("-n {name} addr add {inside} dev uplink"))?;
        ip(&format!("-n {name} link set uplink up"))?;
        Ok(namespace)
    }

    /// A command that will run in there.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // They go with the nested host at the latest.
        let _ = ip(&format!("link delete {}", self.link));
        let _ = ip(&format!("netns delete {}", self.name));
    }
}

/// Runs `ip` with the words of `arguments`.
///
/// # Errors
/// It fails; quotes what it says.
pub fn ip(arguments: &str) -> Result<String> {
    let output =
        Command::new("ip").args(arguments.split(' ')).stdin(Stdio::null()).output().context("Cannot run ip")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {arguments}: {}", said.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
