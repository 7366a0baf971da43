// SPDX-License-Identifier: Apache-2.0
//! A TLS server as Debian ships it.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::key::Key;
use crate::search::{self, Found};

pub(crate) struct Server {
    process: Child,
    port: u16,
}

const PYTHON: &str = "
import http.server, ssl, sys
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[2], sys.argv[3])
server = http.server.HTTPServer(('127.0.0.1', int(sys.argv[1])), http.server.SimpleHTTPRequestHandler)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
";

impl Server {
    pub(crate) fn openssl(key: &Key, secret: bool) -> Self {
        Self::start(secret, |port, server| {
            server.args(["openssl", "s_server", "-www", "-quiet", "-accept", &format!("127.0.0.1:{port}"), "-cert"]);
            server.arg(key.path("cert.pem")).arg("-key").arg(key.path("key.pem"));
        })
    }

    pub(crate) fn python(key: &Key, secret: bool) -> Self {
        Self::start(secret, |port, server| {
            server.args(["/usr/bin/python3", "-c", PYTHON, &port.to_string()]);
            server.arg(key.path("cert.pem")).arg(key.path("key.pem")).current_dir(key.dir.path());
        })
    }

    pub(crate) fn nginx(key: &Key, secret: bool) -> Self {
        Self::start(secret, |port, server| {
            let config = key.path("nginx.conf");
            let dir = key.dir.path().display();
            let text = format!(
                "daemon off; user root; worker_processes 4; error_log stderr; pid {dir}/pid; events {{}}\n\
                 http {{ access_log off; server {{ listen 127.0.0.1:{port} ssl; root /usr/share/nginx;\n\
                 ssl_certificate {dir}/cert.pem; ssl_certificate_key {dir}/key.pem;\n\
                 location / {{ return 200 'hello'; }} }} }}"
            );
            fs::write(&config, text).unwrap();
            server.args(["/usr/sbin/nginx", "-p"]).arg(key.dir.path()).arg("-c").arg(config);
        })
    }

    fn start(secret: bool, build: impl FnOnce(u16, &mut Command)) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        if secret {
            build_library();
        }
        let mut command = if secret { Command::new(env!("CARGO_BIN_EXE_secretmem-run")) } else { Command::new("env") };
        build(port, &mut command);
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        let mut server = Self { process, port };
        server.wait();
        server
    }

    fn wait(&mut self) {
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(self.process.try_wait().unwrap().is_none(), "the server has ended");
            assert!(start.elapsed() < Duration::from_secs(60), "the server does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Some requests, so that each worker has used the key.
    pub(crate) fn is_answering(&self) {
        for _ in 0..8 {
            let url = format!("https://127.0.0.1:{}/", self.port);
            let curl = Command::new("curl")
                .args(["-sSk", "--noproxy", "*", "--max-time", "30", "-o", "/dev/null", &url])
                .output()
                .unwrap();
            assert!(curl.status.success(), "{}", String::from_utf8_lossy(&curl.stderr));
        }
    }

    /// The server and its workers.
    fn processes(&self) -> Vec<u32> {
        let pid = self.process.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        children.split_whitespace().map(|pid| pid.parse().unwrap()).chain([pid]).collect()
    }

    pub(crate) fn search(&self, key: &Key) -> Vec<Found> {
        self.processes().into_iter().flat_map(|pid| search::search(pid, &key.needles)).collect()
    }

    pub(crate) fn has_unreadable_pages(&self) {
        for pid in self.processes() {
            let secret = search::unreadable(pid);
            println!("process {pid}: {secret} secret mappings, none of them readable from outside");
            assert!(secret > 0, "OpenSSL's memory is secret in {pid}");
        }
    }
}

/// Cargo builds no cdylib for the tests of its own package.
fn build_library() {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--lib", "--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")]);
    assert!(cargo.status().unwrap().success(), "the preload library is built");
}

impl Drop for Server {
    fn drop(&mut self) {
        let workers = self.processes();
        let _ = Command::new("kill").args(workers.iter().map(u32::to_string)).status();
        let _ = self.process.wait();
    }
}
