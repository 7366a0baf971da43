// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use secretvmm_api::{MmdsConfig, MmdsVersion};
use serde_json::json;

use super::*;
use crate::mmds::store::SIZE_LIMIT;

fn mmds(version: MmdsVersion, imds_compat: bool) -> Mmds {
    let mut mmds = Mmds::new(SIZE_LIMIT);
    let network_interfaces = vec!["eth0".into()];
    mmds.configure(&MmdsConfig { version, network_interfaces, ipv4_address: None, imds_compat }).unwrap();
    mmds.put(json!({
        "latest": {"meta-data": {"ami-id": "ami-1", "a/b": "slash", "mac": {"x": "y"}}},
        "age": 43, "list": ["zero"], "none": null,
    }))
    .unwrap();
    mmds
}

fn v1() -> Mmds {
    mmds(MmdsVersion::V1, false)
}

/// Status line, headers, body of the answer to a whole request.
fn ask(mmds: &Mmds, request: &str) -> (String, String, String) {
    let answer = answer(request.as_bytes(), mmds).unwrap();
    let text = String::from_utf8(answer.bytes.to_vec()).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let (status, headers) = head.split_once("\r\n").unwrap();
    assert!(headers.contains(&format!("Content-Length: {}", body.len())), "{text}");
    (status.split_once(' ').unwrap().1[..3].to_owned(), headers.to_owned(), body.to_owned())
}

fn get(mmds: &Mmds, path: &str, headers: &str) -> (String, String) {
    let (status, _, body) = ask(mmds, &format!("GET {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n"));
    (status, body)
}

fn ok(body: &str) -> (String, String) {
    ("200".to_owned(), body.to_owned())
}

#[test]
fn text_is_a_string_or_an_objects_keys() {
    let mmds = v1();
    assert_eq!(get(&mmds, "/latest/meta-data/ami-id", ""), ok("ami-1"));
    assert_eq!(get(&mmds, "/latest", ""), ok("meta-data/"));
    assert_eq!(get(&mmds, "/latest/meta-data/", "Accept: plain/text\r\n"), ok("a/b\nami-id\nmac/"));
    assert_eq!(get(&mmds, "/", "Accept: */*\r\n"), ok("age\nlatest/\nlist\nnone"));
    for path in ["/age", "/list", "/none"] {
        assert_eq!(get(&mmds, path, "").0, "501", "{path}");
    }
}

#[test]
fn json_is_for_those_who_accept_it() {
    let mmds = v1();
    let accept = "accept: text/html, Application/JSON;q=0.5\r\n";
    assert_eq!(get(&mmds, "/latest/meta-data/ami-id", accept), ok("\"ami-1\""));
    assert_eq!(get(&mmds, "/list", accept), ok("[\"zero\"]"));
    let (_, headers, body) = ask(&mmds, &format!("GET / HTTP/1.1\r\n{accept}\r\n"));
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap(), mmds.get());
    assert!(headers.contains("Content-Type: application/json"));
    let compatible = self::mmds(MmdsVersion::V1, true);
    assert_eq!(get(&compatible, "/latest/meta-data/ami-id", accept), ok("ami-1"));
}

#[test]
fn path_is_a_json_pointer_with_slashes_to_spare() {
    let mmds = v1();
    for path in ["//latest///meta-data/ami-id", "http://169.254.169.254//latest/meta-data/ami-id/"] {
        assert_eq!(get(&mmds, path, ""), ok("ami-1"), "{path}");
    }
    assert_eq!(get(&mmds, "/latest/meta-data/a~1b", ""), ok("slash"));
    assert_eq!(get(&mmds, "/list/0", ""), ok("zero"));
    for path in ["/nothing", "/latest/meta-data/ami-id/x", "/list/1", "/latest?x"] {
        assert_eq!(get(&mmds, path, "").0, "404", "{path}");
    }
    for path in ["http://", "http://169.254.169.254", "*", "latest"] {
        assert_eq!(get(&mmds, path, "").0, "400", "{path}");
    }
}

#[test]
fn nothing_is_found_before_there_are_contents() {
    let mut mmds = Mmds::new(SIZE_LIMIT);
    assert_eq!(get(&mmds, "/", "").0, "404");
    mmds.put(json!({})).unwrap();
    assert_eq!(get(&mmds, "/", ""), ok(""));
}

fn token(mmds: &Mmds, header: &str, ttl: &str) -> (String, String, String) {
    ask(mmds, &format!("PUT /latest/api/token HTTP/1.1\r\n{header}: {ttl}\r\n\r\n"))
}

#[test]
fn token_opens_version_2_and_is_no_harm_in_version_1() {
    for version in [MmdsVersion::V1, MmdsVersion::V2] {
        let mmds = mmds(version, false);
        let without = if version == MmdsVersion::V1 { "200" } else { "401" };
        assert_eq!(get(&mmds, "/latest", "").0, without);
        assert_eq!(get(&mmds, "/latest", "X-metadata-token: 1.00\r\n").0, without);
        for (header, ttl_header) in TOKEN.into_iter().zip(TOKEN_TTL) {
            let (status, headers, token) = token(&mmds, &ttl_header.to_lowercase(), "60");
            assert_eq!(status, "200");
            assert!(headers.contains(&format!("{ttl_header}: 60")), "{headers}");
            assert_eq!(get(&mmds, "/latest", &format!("{header}: {token}\r\n")), ok("meta-data/"));
        }
    }
    let mmds = mmds(MmdsVersion::V2, false);
    get(&mmds, "/", "");
    get(&mmds, "/", "X-metadata-token: x\r\n");
    assert_eq!((mmds.metrics().rx_no_token.total(), mmds.metrics().rx_invalid_token.total()), (1, 1));
}

#[test]
fn token_has_rules() {
    let mmds = mmds(MmdsVersion::V2, false);
    for ttl in ["0", "21601", "-1", "+5", "1.5", "", "x", "99999999999"] {
        assert_eq!(token(&mmds, TOKEN_TTL[0], ttl).0, "400", "{ttl}");
    }
    assert_eq!(token(&mmds, TOKEN_TTL[0], "1").0, "200");
    assert_eq!(token(&mmds, TOKEN_TTL[0], "21600").0, "200");
    assert_eq!(token(&mmds, "X-Other", "60").0, "400");
    assert_eq!(token(&mmds, "X-Forwarded-For: 1.2.3.4\r\nX-metadata-token-ttl-seconds", "60").0, "400");
    assert_eq!(ask(&mmds, "PUT /latest/api HTTP/1.1\r\nX-metadata-token-ttl-seconds: 60\r\n\r\n").0, "404");
}

#[test]
fn other_methods_are_not_allowed() {
    for method in ["POST", "PATCH", "DELETE", "OPTIONS"] {
        let (status, headers, _) = ask(&v1(), &format!("{method} / HTTP/1.1\r\n\r\n"));
        assert_eq!(status, "405");
        assert!(headers.contains("Allow: GET, PUT"), "{headers}");
    }
    let head = answer(b"HEAD / HTTP/1.1\r\n\r\n", &v1()).unwrap();
    assert!(head.bytes.ends_with(b"\r\n\r\n"));
}

#[test]
fn request_malformed_or_too_long_ends_the_connection() {
    let long = format!("GET /{} HTTP/1.1\r\n", "x".repeat(REQUEST_MAX));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(HEADERS_MAX + 1));
    for (request, status) in [
        ("GET\r\n\r\n", "400"),
        ("GET / HTTP/3.0\r\n\r\n", "400"),
        ("\0\0\0\0", "400"),
        ("GET / HTTP/1.1\r\nbad header\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nContent-Length: 18446744073709551615\r\n\r\n", "413"),
        ("GET / HTTP/1.1\r\nContent-Length: 5000\r\n\r\n", "413"),
        ("GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", "501"),
        (&long, "413"),
        (&many, "400"),
    ] {
        let answer = answer(request.as_bytes(), &v1()).unwrap();
        let text = String::from_utf8(answer.bytes.to_vec()).unwrap();
        assert!(answer.close && text.split(' ').nth(1) == Some(status), "{request:?}: {text}");
        assert!(text.contains("Connection: close"));
    }
}

#[test]
fn requests_follow_each_other_on_a_connection() {
    let first = "PUT /x HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc";
    let both = format!("{first}GET / HTTP/1.0\r\n\r\n");
    for end in 0..first.len() {
        assert_eq!(answer(&first.as_bytes()[..end], &v1()), None, "{end}");
    }
    let one = answer(both.as_bytes(), &v1()).unwrap();
    assert_eq!((one.consumed, one.close), (first.len(), false));
    let two = answer(&both.as_bytes()[one.consumed..], &v1()).unwrap();
    assert!(two.close, "HTTP 1.0");
    assert!(answer(b"GET / HTTP/1.1\r\nConnection: x, Close\r\n\r\n", &v1()).unwrap().close);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_get_an_answer_or_are_waited_for(
        start in prop_oneof![Just("GET /"), Just("PUT /latest/api/token HTTP/1.1\r\n"), Just("")],
        rest in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let bytes = [start.as_bytes(), &rest].concat();
        if let Some(answer) = answer(&bytes, &v1()) {
            prop_assert!(answer.consumed <= bytes.len() && (answer.consumed > 0 || answer.close));
        }
    }
}
