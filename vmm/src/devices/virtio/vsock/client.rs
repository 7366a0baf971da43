// SPDX-License-Identifier: Apache-2.0
//! A process on the host that has connected and not yet said to which port.

use std::io::{ErrorKind, Read};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use super::packet::PORT_ANY;

/// More than "CONNECT 4294967295\n" with a few spaces.
const LINE_MAX: usize = 32;

/// A client, and what there is of its line.
pub(super) struct Client {
    pub(super) socket: UnixStream,
    /// When it is sent away if it has not said everything.
    pub(super) deadline: Instant,
    line: [u8; LINE_MAX],
    len: usize,
}

/// What a client has said.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// Not everything yet.
    Incomplete,
    /// It wants this port of the guest's.
    Connect(u32),
    /// Nothing that can be had, or it has gone.
    Invalid,
}

impl Client {
    pub(super) fn new(socket: UnixStream, deadline: Instant) -> Self {
        Self { socket, deadline, line: [0; LINE_MAX], len: 0 }
    }

    /// Reads up to the end of the line and not a byte further: what follows is for the guest.
    pub(super) fn read_line(&mut self) -> Line {
        while let Some(byte) = self.line.get_mut(self.len..=self.len) {
            match (&self.socket).read(byte) {
                Ok(1) if byte == b"\n" => return parse(&self.line[..self.len]),
                Ok(1) => self.len += 1,
                Err(err) if err.kind() == ErrorKind::WouldBlock => return Line::Incomplete,
                Err(err) if err.kind() == ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => return Line::Invalid,
            }
        }
        Line::Invalid
    }
}

fn parse(line: &[u8]) -> Line {
    let mut words = line.trim_ascii_end().splitn(2, |byte| *byte == b' ');
    let command = words.next().unwrap_or_default();
    let port = words.next().and_then(|word| str::from_utf8(word.trim_ascii()).ok());
    match port.and_then(|port| port.parse().ok()) {
        Some(port) if port != PORT_ANY && command.eq_ignore_ascii_case(b"connect") => Line::Connect(port),
        _ => Line::Invalid,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn line_is_understood_or_refused() {
        assert_eq!(parse(b"CONNECT 52"), Line::Connect(52));
        assert_eq!(parse(b"connect  52\r"), Line::Connect(52));
        for line in [&b""[..], b"CONNECT", b"CONNECT 52 53", b"CONNECT -1", b"CONNECT 4294967295", b"GET / HTTP/1.1"] {
            assert_eq!(parse(line), Line::Invalid, "{line:?}");
        }
    }

    #[test]
    fn line_in_pieces_is_waited_for_and_what_follows_is_left() {
        let (near, mut far) = UnixStream::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        let mut client = Client::new(near, Instant::now());
        far.write_all(b"CONN").unwrap();
        assert_eq!(client.read_line(), Line::Incomplete);
        far.write_all(b"ECT 7\nhello").unwrap();
        assert_eq!(client.read_line(), Line::Connect(7));
        let mut rest = [0; 8];
        assert_eq!((&client.socket).read(&mut rest).unwrap(), 5);
        assert_eq!(&rest[..5], b"hello");
    }

    #[test]
    fn line_without_end_and_client_without_line_are_invalid() {
        for bytes in [&[b'x'; 100][..], b"CONNECT 5"] {
            let (near, mut far) = UnixStream::pair().unwrap();
            far.write_all(bytes).unwrap();
            drop(far);
            assert_eq!(Client::new(near, Instant::now()).read_line(), Line::Invalid);
        }
    }
}
