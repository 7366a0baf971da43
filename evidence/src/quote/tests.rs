// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]

use p256::ecdsa::SigningKey;
use p256::ecdsa::signature::Signer;

use super::*;
use crate::Status;

const TOKEN: &[u8] = b"a token";

fn signer(byte: u8) -> SigningKey {
    SigningKey::from_bytes(&[byte; 32].into()).unwrap()
}

fn value(byte: u8) -> PcrValue {
    [byte; 32].as_slice().try_into().unwrap()
}

fn policy() -> TpmPolicy {
    TpmPolicy { key: "ak.pem".into(), pcrs: [(0, value(1)), (7, value(2)), (16, value(3))].into() }
}

fn sized(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

/// What a quote is made of, so that each part can be another.
struct Parts {
    magic: u32,
    kind: u16,
    qualifying_data: Vec<u8>,
    banks: u32,
    bank: u16,
    bitmap: Vec<u8>,
    values: Vec<u8>,
    rest: Vec<u8>,
}

impl Parts {
    fn good() -> Self {
        Parts {
            magic: 0xff54_4347,
            kind: 0x8018,
            qualifying_data: Sha256::digest(TOKEN).to_vec(),
            banks: 1,
            bank: 0x000b,
            bitmap: vec![0x81, 0, 1],
            values: [[1; 32], [2; 32], [3; 32]].concat(),
            rest: Vec::new(),
        }
    }

    fn message(&self) -> Vec<u8> {
        [
            self.magic.to_be_bytes().to_vec(),
            self.kind.to_be_bytes().to_vec(),
            sized(&[0; 34]),
            sized(&self.qualifying_data),
            vec![0; 25],
            self.banks.to_be_bytes().to_vec(),
            self.bank.to_be_bytes().to_vec(),
            vec![u8::try_from(self.bitmap.len()).unwrap()],
            self.bitmap.clone(),
            sized(&Sha256::digest(&self.values)),
            self.rest.clone(),
        ]
        .concat()
    }
}

fn sign(message: &[u8], key: &SigningKey) -> Vec<u8> {
    let signature: Signature = key.sign(message);
    signature.to_der().as_bytes().to_vec()
}

fn judged(message: &[u8], signature: &[u8]) -> Submod {
    let key = QuoteKey(*signer(7).verifying_key());
    submod(TOKEN, Some(&Quote { key: &key, message, signature }), &policy())
}

/// The claims that are refused in a quote that was changed before it was signed.
fn refusals(change: impl FnOnce(&mut Parts)) -> Vec<&'static str> {
    let mut parts = Parts::good();
    change(&mut parts);
    let message = parts.message();
    let report = judged(&message, &sign(&message, &signer(7)));
    report.claims.iter().filter(|check| check.status == Status::Contraindicated).map(|check| check.claim).collect()
}

#[test]
fn submod_affirms_a_quote_of_the_token_and_the_policys_pcrs() {
    let message = Parts::good().message();
    let report = judged(&message, &sign(&message, &signer(7)));
    assert_eq!(report.status, Status::Affirming, "{report:?}");
    assert_eq!(report.claims.len(), 3);
}

#[test]
fn submod_without_a_quote_is_refused() {
    assert_eq!(submod(TOKEN, None, &policy()).status, Status::Contraindicated);
}

#[test]
fn submod_refuses_every_flipped_bit_and_another_key() {
    let message = Parts::good().message();
    let signature = sign(&message, &signer(7));
    for bit in 0..message.len() * 8 {
        let mut flipped = message.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(judged(&flipped, &signature).claims[0].status, Status::Contraindicated, "bit {bit}");
    }
    for bit in 0..signature.len() * 8 {
        let mut flipped = signature.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(judged(&message, &flipped).status, Status::Contraindicated, "bit {bit} of the signature");
    }
    assert_eq!(judged(&message, &sign(&message, &signer(8))).status, Status::Contraindicated);
    assert_eq!(judged(&message, b"").status, Status::Contraindicated);
}

#[test]
fn submod_refuses_what_the_key_signed_beside_quotes_of_this_token() {
    assert_eq!(refusals(|parts| parts.qualifying_data = Sha256::digest(b"another").to_vec()), ["token"]);
    assert_eq!(refusals(|parts| parts.qualifying_data.clear()), ["token"]);
    assert_eq!(refusals(|parts| parts.magic += 1), ["form"]);
    assert_eq!(refusals(|parts| parts.kind = 0x8017), ["form"]);
    assert_eq!(refusals(|parts| parts.bank = 0x0004), ["form"]);
    assert_eq!(refusals(|parts| parts.banks = 2), ["form"]);
    assert_eq!(refusals(|parts| parts.rest = vec![0]), ["form"]);
}

#[test]
fn submod_refuses_other_pcrs_and_other_values() {
    assert_eq!(refusals(|parts| parts.values[40] ^= 1), ["pcrs"]);
    assert_eq!(refusals(|parts| parts.bitmap = vec![0x81, 0, 3]), ["pcrs"]);
    assert_eq!(refusals(|parts| parts.bitmap = vec![0x81]), ["pcrs"]);
    assert_eq!(refusals(|parts| parts.bitmap.clear()), ["pcrs"]);
    let none = TpmPolicy { pcrs: BTreeMap::new(), ..policy() };
    let attest = Parts { bitmap: Vec::new(), values: Vec::new(), ..Parts::good() };
    let attest = Attest::read(&attest.message()).unwrap();
    assert!(attest.judge_pcrs(&none.pcrs).is_err());
}

#[test]
fn read_refuses_every_length_but_one() {
    let message = Parts::good().message();
    for length in 0..message.len() {
        assert_eq!(Attest::read(&message[..length]), Err(Malformed::Length), "{length}");
    }
    assert!(Attest::read(&message).is_ok());
}

#[test]
fn keys_of_another_kind_are_refused() {
    let ed25519 = crate::testing::key().public().to_pem().unwrap();
    for text in ["", "x", &ed25519] {
        assert!(QuoteKey::from_pem(text).is_err(), "{text}");
    }
}
