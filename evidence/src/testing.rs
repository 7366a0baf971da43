// SPDX-License-Identifier: Apache-2.0
//! A token for tests, and the parts to make others of.
#![allow(clippy::unwrap_used)]

use zeroize::Zeroizing;

use super::cbor::Value;
use super::claims::{Backing, Claims, Host, Kexec, Layer, Lockdown, Memory, Slot, Vm};
use super::hex::{Digest, Nonce};
use super::key::PrivateKey;
use super::{PROFILE, cose};

/// When the token was made.
pub(super) const MADE_AT: u64 = 1_800_000_000;

pub(super) fn nonce() -> Nonce {
    [0xa5; 32].as_slice().try_into().unwrap()
}

pub(super) fn key() -> PrivateKey {
    PrivateKey::from_seed(&Zeroizing::new([7; 32]))
}

pub(super) fn other_key() -> PrivateKey {
    PrivateKey::from_seed(&Zeroizing::new([8; 32]))
}

/// A VM of 4 GiB on a host as it should be.
pub(super) fn claims() -> Claims {
    let host = Host {
        kernel: "6.12.57-test".into(),
        build_id: Some([0xb1; 20].as_slice().try_into().unwrap()),
        secretmem: 0x6f,
        strict_devmem: Some(true),
        lockdown: Some(Lockdown::Integrity),
        kexec: Some(Kexec::Absent),
        swap: Some(false),
        ksm: Some(false),
        yama: Some(1),
        cmdline: Some(Digest::of(b"quiet")),
    };
    let vm = Vm {
        kernel: Digest::of(b"kernel"),
        initrd: Some(Digest::of(b"initrd")),
        cmdline: Digest::of(b"console=ttyS0"),
        config: Digest::of(b"{}"),
        vmm: Digest::of(b"vmm"),
        sandbox: vec![Layer::Seccomp, Layer::Landlock],
    };
    let memory = Memory {
        backing: Backing::Secret,
        flags: 1,
        pages: 1 << 20,
        huge: 1 << 20,
        pool: 0,
        direct_mapped: 0,
        aliases: 0,
        slots: vec![Slot { gpa: 0, size: 3 << 30 }, Slot { gpa: 4 << 30, size: 1 << 30 }],
    };
    Claims { issued_at: MADE_AT, nonce: nonce(), profile: PROFILE.into(), host, vm, mem: vec![memory] }
}

pub(super) fn token() -> Vec<u8> {
    cose::sign(&claims(), &key()).unwrap()
}

/// A COSE_Sign1 of any header and payload.
pub(super) fn sign_parts(protected: &[u8], payload: &[u8], key: &PrivateKey) -> Vec<u8> {
    let bytes = |bytes: &[u8]| Value::Bytes(bytes.to_vec());
    let message = Value::Array(vec!["Signature1".into(), bytes(protected), bytes(b""), bytes(payload)]);
    let signature = key.sign(&message.encode().unwrap());
    let parts = vec![bytes(protected), Value::Map(Vec::new()), bytes(payload), bytes(&signature)];
    Value::Array(parts).encode().unwrap()
}
