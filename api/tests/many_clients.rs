// SPDX-License-Identifier: Apache-2.0
//! Clients in numbers. The tests change how many descriptors the process can have, so they take turns.

#![allow(clippy::unwrap_used)]

mod support;

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use secretvmm_api::Version;
use socket2::{Domain, SockAddr, Socket, Type};

use support::{Host, Raw};

static DESCRIPTORS: Mutex<()> = Mutex::new(());

fn set_descriptors(count: u64) {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(count), maximum }).unwrap();
}

#[test]
fn thousand_silent_clients_keep_nobody_out() {
    let _turn = DESCRIPTORS.lock();
    set_descriptors(4096);
    let host = Host::new();
    let path = host.path.clone();
    let (stop, stopped) = mpsc::channel::<()>();
    let clients = thread::spawn(move || {
        // More than the backlog, so that connect() itself waits.
        let silent: Vec<UnixStream> = (0..500).map(|_| UnixStream::connect(&path).unwrap()).collect();
        let half: Vec<Raw> = (0..500)
            .map(|_| Raw::new(&path))
            .map(|mut raw| {
                // It may have been cut off already.
                let _ = raw.0.get_mut().write_all(b"PUT /vsock HTTP/1.1\r\nContent-Length: 9\r\n\r\n{");
                raw
            })
            .collect();
        let _ = stopped.recv();
        drop((silent, half));
    });
    thread::sleep(Duration::from_millis(100));
    let start = Instant::now();
    for _ in 0..3 {
        let version: Version = host.client().get("/version").unwrap();
        assert_eq!(version.firecracker_version, "1.2.3");
    }
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
    drop(stop);
    clients.join().unwrap();
}

#[test]
fn thousand_requests_at_a_time_are_all_answered() {
    let _turn = DESCRIPTORS.lock();
    set_descriptors(4096);
    let host = Host::new();
    let threads: Vec<_> = (0..20)
        .map(|_| {
            let path = host.path.clone();
            thread::spawn(move || {
                let mut raws: Vec<Raw> = (0..50)
                    .map(|_| {
                        let mut raw = Raw::new(&path);
                        raw.send("GET /version HTTP/1.1\r\nConnection: close\r\n\r\n");
                        raw
                    })
                    .collect();
                raws.iter_mut().filter_map(Raw::receive).filter(|answer| answer.status == 200).count()
            })
        })
        .collect();
    let answered: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    assert_eq!(answered, 1000);
}

#[test]
fn lack_of_descriptors_is_survived() {
    let _turn = DESCRIPTORS.lock();
    set_descriptors(4096);
    let host = Host::new();
    // It has all it needs to run.
    let _: Version = host.client().get("/version").unwrap();
    let address = SockAddr::unix(&host.path).unwrap();
    let sockets: Vec<Socket> = (0..10).map(|_| Socket::new(Domain::UNIX, Type::STREAM, None).unwrap()).collect();
    // Room for two descriptors more than there are.
    set_descriptors(std::fs::read_dir("/proc/self/fd").unwrap().count() as u64 + 1);
    for socket in &sockets {
        socket.connect(&address).unwrap();
    }
    thread::sleep(Duration::from_millis(300));
    set_descriptors(4096);
    let version: Version = host.client().get("/version").unwrap();
    assert_eq!(version.firecracker_version, "1.2.3");
}
