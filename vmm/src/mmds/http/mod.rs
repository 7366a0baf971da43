// SPDX-License-Identifier: Apache-2.0
//! From a request's bytes to an answer's.

use httparse::{Request, Status};
use serde_json::Value;
use zeroize::Zeroizing;

use super::Mmds;
use super::token::TTL;

/// The longest request, head and body.
pub(super) const REQUEST_MAX: usize = 4096;
/// The most headers of a request.
const HEADERS_MAX: usize = 32;
/// Where tokens are.
const TOKEN_PATH: &str = "/latest/api/token";
/// Each header has two names, Firecracker's and the one of EC2.
const TOKEN: [&str; 2] = ["X-metadata-token", "X-aws-ec2-metadata-token"];
const TOKEN_TTL: [&str; 2] = ["X-metadata-token-ttl-seconds", "X-aws-ec2-metadata-token-ttl-seconds"];

/// What to send back.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// The request's length; what follows is the next.
    pub(super) consumed: usize,
    /// Head and body.
    pub(super) bytes: Zeroizing<Vec<u8>>,
    /// Nothing more is read from this connection.
    pub(super) close: bool,
}

/// Answers the first request in `bytes`; None if more of it has to come.
pub(super) fn answer(bytes: &[u8], mmds: &Mmds) -> Option<Answer> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = Request::new(&mut headers);
    let refuse = |status, text: &str| {
        let bytes = Response::text(status, text).bytes(1, false, true);
        Some(Answer { consumed: 0, bytes, close: true })
    };
    let head = match request.parse(bytes) {
        Ok(Status::Complete(head)) => head,
        Ok(Status::Partial) if bytes.len() < REQUEST_MAX => return None,
        Ok(Status::Partial) => return refuse("413 Payload Too Large", "The request is too long."),
        Err(err) => return refuse("400 Bad Request", &format!("The request is malformed: {err}.")),
    };
    if values(&request, "Transfer-Encoding").next().is_some() {
        return refuse("501 Not Implemented", "A request's body needs a Content-Length.");
    }
    let Some(body) = body_length(&request) else {
        return refuse("400 Bad Request", "The request's Content-Length is no number.");
    };
    let consumed = match head.checked_add(body) {
        Some(consumed) if consumed <= REQUEST_MAX => consumed,
        _ => return refuse("413 Payload Too Large", "The request is too long."),
    };
    if bytes.len() < consumed {
        return None;
    }
    let minor = request.version.unwrap_or(1);
    let says = |word: &str| values(&request, "Connection").any(|value| lists(value, word));
    let close = says("close") || (minor == 0 && !says("keep-alive"));
    let bytes = respond(&request, mmds).bytes(minor, request.method == Some("HEAD"), close);
    Some(Answer { consumed, bytes, close })
}

/// Answers a request of which the rest does not come, in Firecracker's words.
pub(super) fn incomplete() -> Answer {
    let bytes =
        Response::text("400 Bad Request", "Invalid request: it ends before its Content-Length.").bytes(1, false, true);
    Answer { consumed: 0, bytes, close: true }
}

fn respond(request: &Request, mmds: &Mmds) -> Response {
    let Some(path) = path(request.path.unwrap_or_default()) else {
        return Response::text("400 Bad Request", "The request has no path.");
    };
    match request.method {
        Some("GET") => get(request, &path, mmds),
        Some("PUT") => put(request, &path, mmds),
        _ => Response {
            header: Some(("Allow", "GET, PUT".to_owned())),
            ..Response::text("405 Method Not Allowed", "Only GET and PUT are allowed.")
        },
    }
}

fn get(request: &Request, path: &str, mmds: &Mmds) -> Response {
    if mmds.wants_tokens() {
        let Some((_, token)) = first(request, TOKEN) else {
            mmds.metrics().rx_no_token.inc();
            return Response::text("401 Unauthorized", &format!("A session token is needed in header {}.", TOKEN[0]));
        };
        if !mmds.accepts_token(token) {
            mmds.metrics().rx_invalid_token.inc();
            return Response::text("401 Unauthorized", "The session token is not valid, or not any more.");
        }
    }
    let Some(value) = mmds.at(path) else { return Response::not_found(path) };
    let json = !mmds.always_text() && values(request, "Accept").any(|value| lists(value, "application/json"));
    if json {
        return Response { kind: "application/json", ..Response::text("200 OK", &value.to_string()) };
    }
    match value {
        Value::String(text) => Response::text("200 OK", text),
        Value::Object(map) => {
            let line = |(key, value): (&String, &Value)| format!("{key}{}", if value.is_object() { "/" } else { "" });
            Response::text("200 OK", &map.iter().map(line).collect::<Vec<_>>().join("\n"))
        }
        _ => Response::text(
            "501 Not Implemented",
            "Only strings and objects have a form as text; ask with Accept: application/json.",
        ),
    }
}

fn put(request: &Request, path: &str, mmds: &Mmds) -> Response {
    if values(request, "X-Forwarded-For").next().is_some() {
        return Response::text("400 Bad Request", "A session token cannot be had through a proxy.");
    }
    if path != TOKEN_PATH {
        return Response::not_found(path);
    }
    let Some((name, ttl)) = first(request, TOKEN_TTL) else {
        let text = format!("The token's life in seconds is needed in header {}.", TOKEN_TTL[0]);
        return Response::text("400 Bad Request", &text);
    };
    let digits = ttl.bytes().all(|byte| byte.is_ascii_digit());
    let Some(ttl) = ttl.parse().ok().filter(|ttl| digits && TTL.contains(ttl)) else {
        let text = format!("{name} is a number from {} to {}.", TTL.start(), TTL.end());
        return Response::text("400 Bad Request", &text);
    };
    match mmds.issue_token(ttl).map(Zeroizing::new) {
        Some(token) => Response { header: Some((name, ttl.to_string())), ..Response::text("200 OK", &token) },
        None => Response::not_found(path),
    }
}

/// The path of a request's target, in origin or absolute form, as a JSON pointer. None if it has none.
fn path(target: &str) -> Option<String> {
    let path = match target.strip_prefix("http://") {
        Some(rest) => rest.get(rest.find('/')?..)?,
        None => target,
    };
    // Slashes count once, however many there are.
    let mut pointer = String::with_capacity(path.len());
    for letter in path.starts_with('/').then_some(path)?.chars() {
        if letter != '/' || !pointer.ends_with('/') {
            pointer.push(letter);
        }
    }
    Some(pointer)
}

/// The values of a header, wherever it occurs. What is no UTF-8 is no value.
fn values<'a>(request: &'a Request, name: &'a str) -> impl Iterator<Item = &'a str> {
    let named = request.headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name));
    named.filter_map(|header| Some(std::str::from_utf8(header.value).ok()?.trim()))
}

/// The first header of these names.
fn first<'a>(request: &'a Request, names: [&'static str; 2]) -> Option<(&'static str, &'a str)> {
    names.into_iter().find_map(|name| Some((name, values(request, name).next()?)))
}

/// Whether a list of words with parameters has this one.
fn lists(list: &str, word: &str) -> bool {
    list.split(',').any(|item| item.split(';').next().is_some_and(|item| item.trim().eq_ignore_ascii_case(word)))
}

/// The length of the body; None if the request contradicts itself.
fn body_length(request: &Request) -> Option<usize> {
    let mut length = None;
    for header in request.headers.iter().filter(|header| header.name.eq_ignore_ascii_case("Content-Length")) {
        let text = std::str::from_utf8(header.value).ok()?.trim();
        let number = text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())??;
        if length.is_some_and(|length| length != number) {
            return None;
        }
        length = Some(number);
    }
    Some(length.unwrap_or(0))
}

/// A response before it is bytes.
struct Response {
    status: &'static str,
    kind: &'static str,
    header: Option<(&'static str, String)>,
    body: Zeroizing<String>,
}

impl Response {
    fn text(status: &'static str, body: &str) -> Self {
        Self { status, kind: "text/plain", header: None, body: body.to_owned().into() }
    }

    fn not_found(path: &str) -> Self {
        Self::text("404 Not Found", &format!("There is no {path}."))
    }

    /// As sent to a client of HTTP 1.`minor`.
    fn bytes(&self, minor: u8, without_body: bool, close: bool) -> Zeroizing<Vec<u8>> {
        let Self { status, kind, header, body } = self;
        let header = header.as_ref().map(|(name, value)| format!("{name}: {value}\r\n")).unwrap_or_default();
        let connection = if close { "close" } else { "keep-alive" };
        let head = format!(
            "HTTP/1.{minor} {status}\r\nServer: secretvmm\r\nConnection: {connection}\r\nContent-Type: {kind}\r\n\
             Content-Length: {}\r\n{header}\r\n",
            body.len()
        );
        let body = if without_body { "" } else { body.as_str() };
        // Room for all of it at once: what grows leaves copies behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(head.len() + body.len()));
        bytes.extend_from_slice(head.as_bytes());
        bytes.extend_from_slice(body.as_bytes());
        bytes
    }
}

#[cfg(test)]
mod tests;
