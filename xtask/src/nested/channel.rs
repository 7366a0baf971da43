// SPDX-License-Identifier: Apache-2.0
//! The frames between xtask outside and xtask inside the nested host.
//!
//! A frame is a kind (1 byte), a length (4 bytes, little endian) and that many
//! bytes. Each direction is one ordered stream.

use std::io::{self, ErrorKind, Read, Write};

use serde::{Deserialize, Serialize};

/// Longest piece of input or output in one frame.
pub(crate) const CHUNK: usize = 32 << 10;

/// Longer frames than this are a broken stream (environments are long).
const LONGEST: u32 = 16 << 20;

/// What to run inside. Arguments and environment are bytes, as the kernel has them.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Start {
    pub(crate) command: Vec<Vec<u8>>,
    pub(crate) environment: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) directory: Vec<u8>,
    /// Rows and columns, if the command gets a terminal.
    pub(crate) terminal: Option<(u16, u16)>,
}

/// A frame of either direction.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// To the inside: run this. The first frame, and the only one of its kind.
    Start(Start),
    /// To the inside: input for the command.
    Stdin(Vec<u8>),
    /// To the inside: there is no more input.
    StdinEnd,
    /// To the inside: the terminal now has these rows and columns.
    Resize(u16, u16),
    /// To the outside: the host is up and the command is being started.
    Up,
    /// To the outside: output of the command.
    Stdout(Vec<u8>),
    Stderr(Vec<u8>),
    /// To the outside: the command ended and all its output has been sent.
    Exit(u8),
}

impl Frame {
    /// Sends the frame in one write.
    pub(crate) fn send(&self, to: &mut impl Write) -> io::Result<()> {
        let (kind, body) = match self {
            Self::Start(start) => (1, serde_json::to_vec(start)?),
            Self::Stdin(bytes) => (2, bytes.clone()),
            Self::StdinEnd => (3, Vec::new()),
            Self::Resize(rows, columns) => (4, [rows.to_le_bytes(), columns.to_le_bytes()].concat()),
            Self::Up => (5, Vec::new()),
            Self::Stdout(bytes) => (6, bytes.clone()),
            Self::Stderr(bytes) => (7, bytes.clone()),
            Self::Exit(code) => (8, vec![*code]),
        };
        let length = u32::try_from(body.len()).map_err(|_| broken("a frame is too long"))?;
        let mut frame = vec![kind];
        frame.extend(length.to_le_bytes());
        frame.extend(body);
        to.write_all(&frame)?;
        to.flush()
    }

    /// Waits for the next frame.
    pub(crate) fn receive(from: &mut impl Read) -> io::Result<Self> {
        let mut head = [0; 5];
        from.read_exact(&mut head)?;
        let [kind, length @ ..] = head;
        let length = u32::from_le_bytes(length);
        if length > LONGEST {
            return Err(broken("a frame is too long"));
        }
        let mut body = vec![0; length as usize];
        from.read_exact(&mut body)?;
        match (kind, body.as_slice()) {
            (1, _) => Ok(Self::Start(serde_json::from_slice(&body)?)),
            (2, _) => Ok(Self::Stdin(body)),
            (3, []) => Ok(Self::StdinEnd),
            (4, &[a, b, c, d]) => Ok(Self::Resize(u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]))),
            (5, []) => Ok(Self::Up),
            (6, _) => Ok(Self::Stdout(body)),
            (7, _) => Ok(Self::Stderr(body)),
            (8, &[code]) => Ok(Self::Exit(code)),
            _ => Err(broken("a frame is of no known kind")),
        }
    }
}

fn broken(why: &'static str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn frames_come_back_as_sent_and_in_order() {
        let start = Start {
            command: vec![b"ls".to_vec(), vec![0xff]],
            environment: vec![(b"A".to_vec(), b"b".to_vec())],
            directory: b"/".to_vec(),
            terminal: Some((24, 80)),
        };
        let frames = [
            Frame::Start(start),
            Frame::Stdin(vec![1, 2]),
            Frame::StdinEnd,
            Frame::Resize(50, 300),
            Frame::Up,
            Frame::Stdout(vec![b'\n'; 3]),
            Frame::Stderr(Vec::new()),
            Frame::Exit(143),
        ];
        let mut stream = Vec::new();
        frames.iter().for_each(|frame| frame.send(&mut stream).unwrap());
        let mut reader = stream.as_slice();
        for frame in frames {
            assert_eq!(Frame::receive(&mut reader).unwrap(), frame);
        }
        assert_eq!(Frame::receive(&mut reader).unwrap_err().kind(), ErrorKind::UnexpectedEof);
    }

    #[test]
    fn receive_refuses_unknown_kinds_wrong_sizes_and_lengths_without_end() {
        for bytes in [&[9, 0, 0, 0, 0][..], &[8, 2, 0, 0, 0, 1, 1], &[6, 255, 255, 255, 255]] {
            assert_eq!(Frame::receive(&mut &bytes[..]).unwrap_err().kind(), ErrorKind::InvalidData);
        }
    }
}
