// SPDX-License-Identifier: Apache-2.0
//! A key made for one test.

use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use crate::search::What;

pub(crate) struct Key {
    pub(crate) dir: TempDir,
    /// What is looked for: 32 bytes of each.
    pub(crate) needles: Vec<(What, Vec<u8>)>,
}

impl Key {
    pub(crate) fn make() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (key, cert) = (dir.path().join("key.pem"), dir.path().join("cert.pem"));
        let mut request = Command::new("openssl");
        request.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-keyout"]);
        assert!(request.arg(&key).arg("-out").arg(cert).output().unwrap().status.success());
        let mut convert = Command::new("openssl");
        let der = convert.args(["rsa", "-traditional", "-outform", "DER", "-in"]).arg(&key).output().unwrap().stdout;
        let mut needles = Vec::new();
        // RSAPrivateKey (RFC 8017, A.1.2): version, n, e, d, p, q and what follows from them.
        for (name, number) in ["d", "p", "q"].into_iter().zip(&integers(&der)[3..]) {
            let middle = &number[number.len() / 2..][..32];
            needles.push((What::Der(name), middle.to_vec()));
            needles.push((What::Bignum(name), middle.iter().rev().copied().collect()));
        }
        let pem = std::fs::read_to_string(&key).unwrap();
        needles.push((What::Pem, pem.lines().nth(12).unwrap().as_bytes().to_vec()));
        Self { dir, needles }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

/// The integers of one DER sequence.
fn integers(der: &[u8]) -> Vec<&[u8]> {
    let (mut rest, _) = content(der);
    let mut all = Vec::new();
    while !rest.is_empty() {
        let (integer, after) = content(rest);
        all.push(integer);
        rest = after;
    }
    all
}

/// An element's content, and what comes behind it.
fn content(der: &[u8]) -> (&[u8], &[u8]) {
    let (len, head) = match der[1] {
        short @ 0..=0x7f => (usize::from(short), 2),
        0x81 => (usize::from(der[2]), 3),
        _ => ((usize::from(der[2]) << 8) | usize::from(der[3]), 4),
    };
    der[head..].split_at(len)
}
