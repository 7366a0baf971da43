// SPDX-License-Identifier: Apache-2.0
//! Network interfaces: a TAP each, and metadata.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use secretvmm_tests::guest::STEP_LIMIT;
use secretvmm_tests::network::Tap;
use secretvmm_tests::report;
use serde_json::json;

use super::vm::Vm;
use crate::support::on_clean_host;

const HOST: &str = "172.17.0.1";
const GUEST: &str = "172.17.0.2";
const MAC: &str = "06:00:ac:11:00:02";
/// Moved in each direction.
const BYTES: usize = 16 << 20;

#[test]
fn packets_go_both_ways_and_metadata_are_there() -> Result<()> {
    on_clean_host(|| {
        let tap = Tap::new("tap-net", &format!("{HOST}/24"))?;
        let mut vm = Vm::new("network")?;
        vm.boots_demo("")?;
        let interface = json!({ "iface_id": "eth0", "guest_mac": MAC, "host_dev_name": tap.name });
        vm.put("/network-interfaces/eth0", &interface)?;
        vm.put("/mmds/config", &json!({ "version": "V2", "network_interfaces": ["eth0"] }))?;
        vm.put("/mmds", &json!({ "latest": { "meta-data": { "ami-id": "ami-1", "reservation": 12 } } }))?;
        vm.start_to_shell()?;

        vm.guest.shell(&format!("ip address add {GUEST}/24 dev eth0; ip link set eth0 up"))?;
        ensure!(vm.guest.shell("cat /sys/class/net/eth0/address")? == MAC, "Another MAC address");
        let said = vm.guest.shell(&format!("ping -q -c 3 -W 20 {HOST} | grep received"))?;
        ensure!(said.contains("3 packets received"), "The guest's ping: {said}");
        let ping = Command::new("busybox").args(["ping", "-q", "-c", "3", "-W", "20", GUEST]).output()?;
        ensure!(ping.status.success(), "The host's ping: {}", String::from_utf8_lossy(&ping.stdout));

        tcp_to_guest(&mut vm)?;
        tcp_to_host(&mut vm)?;
        metadata(&mut vm)?;
        limits(&mut vm)?;
        vm.power_off()
    })
}

fn tcp_to_guest(vm: &mut Vm) -> Result<()> {
    vm.guest.type_line("nc -l -p 5000 | sha256sum | cut -c 1-16 | sed 's/^/sum: /'")?;
    let mut stream = connect(&format!("{GUEST}:5000"))?;
    let (begun, data) = (Instant::now(), pattern());
    stream.write_all(&data)?;
    drop(stream);
    let sum = vm.guest.console.expect_line("\nsum: ", STEP_LIMIT)?;
    report_speed("TCP host to guest", begun);
    vm.guest.expect("# ", STEP_LIMIT)?;
    ensure!(sum == sha256(&data)?, "The guest got something else");
    Ok(())
}

fn tcp_to_host(vm: &mut Vm) -> Result<()> {
    let listener = TcpListener::bind((HOST, 5001))?;
    vm.guest.type_line(&format!(
        "head -c {BYTES} /dev/urandom >/tmp/data; sha256sum </tmp/data | cut -c 1-16 | \
                                 sed 's/^/sum: /'; nc {HOST} 5001 </tmp/data"
    ))?;
    let sum = vm.guest.console.expect_line("\nsum: ", STEP_LIMIT)?;
    let (mut stream, _) = listener.accept()?;
    let begun = Instant::now();
    let mut data = Vec::new();
    stream.read_to_end(&mut data)?;
    report_speed("TCP guest to host", begun);
    drop(stream);
    vm.guest.expect("# ", STEP_LIMIT)?;
    ensure!(data.len() == BYTES && sum == sha256(&data)?, "The host got something else, {} bytes", data.len());
    Ok(())
}

/// MMDS version 2: a token first, then the data with it.
fn metadata(vm: &mut Vm) -> Result<()> {
    vm.guest.shell("ip route add 169.254.169.254 dev eth0")?;
    let ask = |request: &str| format!("printf '{request}' | nc 169.254.169.254 80");
    let token = vm.guest.shell(&ask(
        "PUT /latest/api/token HTTP/1.1\\r\\nHost: m\\r\\nX-metadata-token-ttl-seconds: 60\\r\\nContent-Length: 0\\r\\n\\r\\n",
    ))?;
    ensure!(token.starts_with("HTTP/1.1 200"), "No token: {token}");
    let token = token.lines().last().context("No token")?.trim().to_owned();
    let get = |token: &str| {
        format!("GET /latest/meta-data/ami-id HTTP/1.1\\r\\nHost: m\\r\\nX-metadata-token: {token}\\r\\n\\r\\n")
    };
    let said = vm.guest.shell(&ask(&get(&token)))?;
    ensure!(said.starts_with("HTTP/1.1 200") && said.ends_with("ami-1"), "No data: {said}");
    let said = vm.guest.shell(&ask(&get("nonsense")))?;
    ensure!(said.starts_with("HTTP/1.1 401"), "A token of nobody's: {said}");

    vm.patch("/mmds", &json!({ "latest": { "meta-data": { "ami-id": "ami-2" } } }))?;
    let said = vm.guest.shell(&ask(&get(&token)))?;
    ensure!(said.ends_with("ami-2"), "After the change: {said}");
    ensure!(vm.get("/mmds")?["latest"]["meta-data"]["reservation"] == 12, "The change took more along");
    Ok(())
}

/// 2 MiB at 1 MiB a second, of which a bucket of 512 KiB is there from the start.
fn limits(vm: &mut Vm) -> Result<()> {
    let limit = json!({ "bandwidth": { "size": 512 << 10, "refill_time": 500 } });
    vm.patch("/network-interfaces/eth0", &json!({ "iface_id": "eth0", "rx_rate_limiter": limit }))?;
    vm.guest.type_line("nc -l -p 5002 | wc -c | sed 's/^/size: /'")?;
    let mut stream = connect(&format!("{GUEST}:5002"))?;
    let begun = Instant::now();
    stream.write_all(&vec![7; 2 << 20])?;
    drop(stream);
    let size = vm.guest.console.expect_line("\nsize: ", STEP_LIMIT)?;
    vm.guest.expect("# ", STEP_LIMIT)?;
    ensure!(size == (2 << 20).to_string(), "{size} bytes came");
    ensure!(begun.elapsed() > Duration::from_millis(1200), "2 MiB came within {:?}", begun.elapsed());
    Ok(())
}

/// Connects as soon as the guest listens.
fn connect(address: &str) -> Result<TcpStream> {
    let deadline = Instant::now() + STEP_LIMIT;
    loop {
        match TcpStream::connect(address) {
            Ok(stream) => return Ok(stream),
            Err(error) if Instant::now() > deadline => return Err(error).context("Cannot connect to the guest"),
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

fn pattern() -> Vec<u8> {
    (0..BYTES).map(|index| (index % 251) as u8).collect()
}

/// The first digits of a SHA-256 sum.
fn sha256(data: &[u8]) -> Result<String> {
    let mut child = Command::new("sha256sum")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .context("Cannot run sha256sum")?;
    child.stdin.take().context("No input")?.write_all(data)?;
    let sum = String::from_utf8(child.wait_with_output()?.stdout)?;
    Ok(sum.chars().take(16).collect())
}

fn report_speed(name: &str, begun: Instant) {
    let rate = BYTES as f64 / f64::from(1 << 20) / begun.elapsed().as_secs_f64();
    report::figure(name, format!("{rate:.1}"), "MiB/s");
}
