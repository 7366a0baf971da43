// SPDX-License-Identifier: Apache-2.0
//! The server as clients see it, on real sockets.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::fs::{self, Permissions};
use std::io::Write;
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::thread;
use std::time::Duration;

use rustix::process::{Uid, geteuid};
use rustix::thread::set_thread_res_uid;
use secretvmm_api::server::Limits;
use secretvmm_api::{ActionType, BootSource, InstanceInfo, InstanceState, Version, VmState, client};
use serde_json::json;

use support::{Answer, Host, put};

#[test]
fn client_gets_what_the_vmm_answers() {
    let host = Host::new();
    let client = host.client();
    let info: InstanceInfo = client.get("/").unwrap();
    assert_eq!((info.id.as_str(), info.state), ("test", InstanceState::Running));
    let version: Version = client.get("/version").unwrap();
    assert_eq!(version.firecracker_version, "1.2.3");
    let boot = BootSource { kernel_image_path: "/k".into(), boot_args: None, initrd_path: None };
    client.put("/boot-source", &boot).unwrap();
    client.patch("/drives/a", &json!({"drive_id": "a"})).unwrap();
    client.set_state(VmState::Paused).unwrap();
    let client::Error::Fault { status: 400, message } = client.action(ActionType::InstanceStart).unwrap_err() else {
        panic!("no fault");
    };
    assert_eq!(message, "The VM has been started already");
    let fault = client.put("/mmds", &json!({})).unwrap_err();
    assert!(matches!(fault, client::Error::Fault { status: 413, .. }), "{fault}");
    let mmds: serde_json::Value = client.get("/mmds").unwrap();
    assert_eq!(mmds["big"].as_str().unwrap().len(), 1 << 20);
}

#[test]
fn answer_looks_like_firecrackers() {
    let host = Host::new();
    let mut raw = host.connect();
    let answer = raw.send("GET /version HTTP/1.1\r\n\r\n").receive().unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (200, r#"{"firecracker_version":"1.2.3"}"#));
    assert!(answer.headers.contains(&"content-type: application/json".to_owned()), "{answer:?}");
    let answer = raw.send(&put("/vsock", r#"{"guest_cid": 3, "uds_path": "/v"}"#)).receive().unwrap();
    assert_eq!(answer, Answer { status: 204, headers: vec![], body: String::new() });
    let answer = raw.send(&put("/vsock", r#"{"guest_cid": 3, "uds_path": "/v", "vsock_id": "v"}"#)).receive().unwrap();
    assert_eq!(answer, Answer { status: 204, headers: vec!["deprecation: true".into()], body: String::new() });
    let answer = raw.send(&put("/actions", r#"{"action_type": "InstanceStart"}"#)).receive().unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (400, r#"{"fault_message":"The VM has been started already"}"#));
}

#[test]
fn wrong_requests_are_400_with_a_reason() {
    let host = Host::new();
    let mut raw = host.connect();
    for (request, message) in [
        ("GET /nothing HTTP/1.1\r\n\r\n".to_owned(), "There is no path /nothing"),
        ("DELETE / HTTP/1.1\r\n\r\n".to_owned(), "There is no DELETE on /, only GET"),
        ("GET /version?x=1 HTTP/1.1\r\n\r\n".to_owned(), "There are no queries here; leave ?x=1 out"),
        ("GET /version HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}".to_owned(), "A GET request has no body"),
        (put("/vsock", ""), "A PUT request needs a body"),
        (put("/vsock", "{\"a"), "EOF while parsing"),
        ("PUT /vm HTTP/1.1\r\n\r\n".to_owned(), "There is no PUT on /vm, only PATCH"),
        (put("/drives/%2e%2e", "{}"), "letters, digits and underscores"),
    ] {
        let answer = raw.send(&request).receive().unwrap();
        assert_eq!(answer.status, 400, "{request}");
        let fault: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        assert!(fault["fault_message"].as_str().unwrap().contains(message), "{request}: {fault}");
    }
    let answer = raw.send("no HTTP at all\r\n\r\n").receive().unwrap();
    assert_eq!(answer.status, 400);
    assert!(raw.closed());
    let head = format!("GET /{} HTTP/1.1\r\n", "x".repeat(20_000));
    assert_eq!(host.connect().send(&head).receive().unwrap().status, 431);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let host = Host::new();
    let mut raw = host.connect();
    let one = put("/actions", r#"{"action_type": "SendCtrlAltDel"}"#);
    let two = "GET /version HTTP/1.1\r\n\r\n";
    raw.send(&format!("{one}{two}{two}{}", put("/actions", "{}")));
    let statuses: Vec<u16> = (0..4).map(|_| raw.receive().unwrap().status).collect();
    assert_eq!(statuses, [204, 200, 200, 400]);
    // The connection goes on, and a client that says that it has finished gets its answers all the same.
    raw.send(two);
    raw.0.get_mut().shutdown(Shutdown::Write).unwrap();
    assert_eq!(raw.receive().unwrap().status, 200);
    assert!(raw.closed());
}

#[test]
fn old_http_is_answered_and_closed() {
    let host = Host::new();
    let mut raw = host.connect();
    assert_eq!(raw.send("GET /version HTTP/1.0\r\n\r\n").receive().unwrap().status, 200);
    assert!(raw.closed());
}

#[test]
fn body_up_to_the_limit_is_read_and_a_larger_one_is_413() {
    let host = Host::with_limits(Limits { body: 1000, ..Limits::default() });
    let body = |length: usize| format!(r#"{{"kernel_image_path": "{}"}}"#, "k".repeat(length - 25));
    let mut raw = host.connect();
    assert_eq!(raw.send(&put("/boot-source", &body(1000))).receive().unwrap().status, 204);
    let answer = raw.send(&put("/boot-source", &body(1001))).receive().unwrap();
    assert_eq!(answer.status, 413);
    assert!(answer.body.contains("--http-api-max-payload-size"), "{answer:?}");
    assert!(raw.closed());
    // A gigabyte is refused when it is announced, and a chunked one when it has gone too far.
    let mut raw = host.connect();
    let answer = raw.send("PUT /mmds HTTP/1.1\r\nContent-Length: 1073741824\r\n\r\n{").receive().unwrap();
    assert_eq!(answer.status, 413);
    let mut raw = host.connect();
    raw.send("PUT /mmds HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n");
    let answer = raw.send(&format!("3e9\r\n{}\r\n", " ".repeat(1001))).receive().unwrap();
    assert_eq!(answer.status, 413);
    // Nobody has to send a body that is too large.
    let mut raw = host.connect();
    raw.send("PUT /mmds HTTP/1.1\r\nContent-Length: 2000\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(raw.receive().unwrap().status, 413);
}

#[test]
fn chunked_body_is_read() {
    let host = Host::new();
    let mut raw = host.connect();
    raw.send("PATCH /vm HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"sta\r\n");
    raw.send("d\r\nte\":\"Paused\"}\r\n0\r\n\r\n");
    assert_eq!(raw.receive().unwrap().status, 204);
    raw.send("PATCH /vm HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n");
    assert_eq!(raw.receive().unwrap().status, 400);
    assert!(raw.closed());
}

#[test]
fn slow_body_is_408_and_slow_head_is_cut_off() {
    let limits = Limits { idle: Duration::from_millis(400), receive: Duration::from_millis(200), ..Limits::default() };
    let host = Host::with_limits(limits);
    let mut raw = host.connect();
    let answer = raw.send("PUT /vsock HTTP/1.1\r\nContent-Length: 9\r\n\r\n{").receive().unwrap();
    assert_eq!(answer.status, 408);
    assert!(raw.closed());
    assert!(host.connect().send("PUT /vsock HTT").closed());
    assert!(host.connect().closed());
    // Neither has to do with how long the VMM takes.
    let action = put("/actions", r#"{"action_type": "SendCtrlAltDel"}"#);
    assert_eq!(host.connect().send(&action).receive().unwrap().status, 204);
}

#[test]
fn vmm_that_is_gone_is_503() {
    let host = Host::with(Limits::default(), drop);
    let answer = host.connect().send("GET / HTTP/1.1\r\n\r\n").receive().unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (503, r#"{"fault_message":"The VM is ending"}"#));
    // A request that is wrong in itself needs no VMM.
    assert_eq!(host.connect().send(&put("/vsock", "{}")).receive().unwrap().status, 400);
    let host = Host::new();
    let action = put("/actions", r#"{"action_type": "FlushMetrics"}"#);
    assert_eq!(host.connect().send(&action).receive().unwrap().status, 503);
}

#[test]
fn stop_answers_what_the_vmm_has_been_asked() {
    let host = Host::new();
    let mut idle = host.connect();
    idle.send("GET /version HTTP/1.1\r\n\r\n").receive().unwrap();
    let mut served = host.connect();
    served.send(&put("/actions", r#"{"action_type": "SendCtrlAltDel"}"#));
    thread::sleep(Duration::from_millis(100));
    host.stopper.stop();
    assert_eq!(served.receive().unwrap().status, 204);
    assert!(served.closed() && idle.closed());
    drop(host);
}

#[test]
fn client_that_leaves_early_disturbs_nobody() {
    let host = Host::new();
    for _ in 0..3 {
        host.connect().send(&put("/actions", r#"{"action_type": "SendCtrlAltDel"}"#)[..40]);
        host.connect().send("GET /mmds HTTP/1.1\r\n\r\n");
    }
    let version: Version = host.client().get("/version").unwrap();
    assert_eq!(version.firecracker_version, "1.2.3");
}

#[test]
fn other_users_are_hung_up_on() {
    if !geteuid().is_root() {
        println!("Not run: only root can be another user");
        return;
    }
    let host = Host::new();
    // What the operator would have to do to let them come this far.
    fs::set_permissions(&host.path, Permissions::from_mode(0o666)).unwrap();
    fs::set_permissions(host.path.parent().unwrap(), Permissions::from_mode(0o711)).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            // This thread's ids only, which a connection has from the one that connects.
            let nobody = Uid::from_raw(65534);
            set_thread_res_uid(nobody, nobody, nobody).unwrap();
            let mut raw = host.connect();
            let _ = raw.0.get_mut().write_all(b"GET /version HTTP/1.1\r\n\r\n");
            assert_eq!(raw.receive(), None);
        });
    });
    assert_eq!(host.connect().send("GET /version HTTP/1.1\r\n\r\n").receive().unwrap().status, 200);
}
