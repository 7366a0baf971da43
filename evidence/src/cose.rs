// SPDX-License-Identifier: Apache-2.0
//! COSE_Sign1 (RFC 9052, 4.2), in the one form of the profile: not tagged, Ed25519, everything that
//! it says of itself under the signature, the unprotected header empty.

use super::MEDIA_TYPE;
use super::cbor::{self, EncodeError, Value};
use super::claim::ClaimError;
use super::claims::Claims;
use super::key::{PrivateKey, PublicKey};

/// Header parameters (RFC 9052, 3.1; RFC 9596).
const ALGORITHM: i64 = 1;
const KEY_ID: i64 = 4;
const TYPE: i64 = 16;
/// EdDSA (RFC 9053, 2.2).
const EDDSA: i64 = -8;

/// Why bytes are no token that this key has signed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The token, or one of the parts that are CBOR themselves.
    #[error("The {part} is not deterministic CBOR")]
    Encoding {
        /// "token", "protected header", "payload".
        part: &'static str,
        /// What is wrong.
        source: cbor::Error,
    },
    /// CBOR, but no COSE_Sign1.
    #[error("It is no COSE_Sign1: an array of a protected header, an empty map, a payload and a signature of 64 bytes")]
    Structure,
    /// Another header than the profile's.
    #[error("The protected header has not exactly algorithm, key id and type")]
    Header,
    /// Another algorithm.
    #[error("The algorithm is not EdDSA (-8)")]
    Algorithm,
    /// Another type.
    #[error("The type is not {MEDIA_TYPE}")]
    Type,
    /// Signed by somebody else, if at all.
    #[error("It names another key")]
    Key,
    /// Changed, or not by this key.
    #[error("The signature is not this key's of this token")]
    Signature,
    /// A claim.
    #[error(transparent)]
    Claim(#[from] ClaimError),
}

/// Signs claims: a token.
///
/// # Errors
/// None that could happen.
pub fn sign(claims: &Claims, key: &PrivateKey) -> Result<Vec<u8>, EncodeError> {
    let protected = header(key.public()).encode()?;
    let payload = claims.encode()?;
    let signature = key.sign(&to_be_signed(&protected, &payload)?);
    let parts = [protected, payload, signature.to_vec()].map(Value::Bytes);
    let [protected, payload, signature] = parts;
    Value::Array(vec![protected, Value::Map(Vec::new()), payload, signature]).encode()
}

/// The claims of a token that `key` has signed.
///
/// ```
/// use secretvmm_evidence::{PrivateKey, cose};
///
/// let key = PrivateKey::from_seed(&[1; 32].into()).public();
/// // An array of three, where a COSE_Sign1 has four.
/// let error = cose::open(&[0x83, 0x40, 0xa0, 0x40], &key).unwrap_err();
/// assert!(matches!(error, cose::Error::Structure));
/// ```
///
/// # Errors
/// It is not one, in any bit.
pub fn open(token: &[u8], key: &PublicKey) -> Result<Claims, Error> {
    let signed = Signed::read(token)?;
    signed.check_header(key)?;
    let message = to_be_signed(&signed.protected, &signed.payload).map_err(|_| Error::Structure)?;
    if !key.verifies(&message, &signed.signature) {
        return Err(Error::Signature);
    }
    Ok(Claims::from_value(decode("payload", &signed.payload)?)?)
}

fn header(key: PublicKey) -> Value {
    Value::Map(vec![
        (ALGORITHM.into(), EDDSA.into()),
        (KEY_ID.into(), Value::Bytes(key.id().to_vec())),
        (TYPE.into(), MEDIA_TYPE.into()),
    ])
}

/// Sig_structure (RFC 9052, 4.4), with no external data.
fn to_be_signed(protected: &[u8], payload: &[u8]) -> Result<Vec<u8>, EncodeError> {
    let bytes = |bytes: &[u8]| Value::Bytes(bytes.to_vec());
    Value::Array(vec!["Signature1".into(), bytes(protected), bytes(b""), bytes(payload)]).encode()
}

fn decode(part: &'static str, bytes: &[u8]) -> Result<Value, Error> {
    Value::decode(bytes).map_err(|source| Error::Encoding { part, source })
}

/// A COSE_Sign1 that has not been verified.
struct Signed {
    protected: Vec<u8>,
    payload: Vec<u8>,
    signature: [u8; 64],
}

impl Signed {
    fn read(token: &[u8]) -> Result<Self, Error> {
        let Value::Array(parts) = decode("token", token)? else { return Err(Error::Structure) };
        let parts: [Value; 4] = parts.try_into().map_err(|_| Error::Structure)?;
        let [Value::Bytes(protected), Value::Map(unprotected), Value::Bytes(payload), Value::Bytes(signature)] = parts
        else {
            return Err(Error::Structure);
        };
        let signature = signature.try_into().map_err(|_| Error::Structure)?;
        if unprotected.is_empty() { Ok(Self { protected, payload, signature }) } else { Err(Error::Structure) }
    }

    fn check_header(&self, key: &PublicKey) -> Result<(), Error> {
        let Value::Map(entries) = decode("protected header", &self.protected)? else { return Err(Error::Header) };
        let value = |key: i64| entries.iter().find(|(other, _)| *other == Value::from(key)).map(|(_, value)| value);
        match [ALGORITHM, KEY_ID, TYPE].map(value) {
            [Some(algorithm), ..] if *algorithm != Value::from(EDDSA) => Err(Error::Algorithm),
            [Some(_), _, Some(kind)] if *kind != Value::from(MEDIA_TYPE) => Err(Error::Type),
            [Some(_), Some(id), Some(_)] if *id != Value::Bytes(key.id().to_vec()) => Err(Error::Key),
            [Some(_), Some(_), Some(_)] if entries.len() == 3 => Ok(()),
            _ => Err(Error::Header),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use coset::{CborSerializable, CoseSign1, RegisteredLabelWithPrivate, iana};

    use super::*;
    use crate::testing::{claims, key, other_key, sign_parts, token};

    #[test]
    fn open_gives_what_was_signed() {
        assert_eq!(open(&token(), &key().public()).unwrap(), claims());
    }

    /// Another implementation reads what we made, and finds the signature good.
    #[test]
    fn sign_makes_what_coset_reads() {
        let sign1 = CoseSign1::from_slice(&token()).unwrap();
        let header = &sign1.protected.header;
        assert_eq!(header.alg, Some(RegisteredLabelWithPrivate::Assigned(iana::Algorithm::EdDSA)));
        assert_eq!(header.key_id, key().public().id());
        assert_eq!(sign1.payload.as_deref(), Some(claims().encode().unwrap().as_slice()));
        let check = |signature: &[u8], message: &[u8]| key().public().verifies(message, signature.try_into().unwrap());
        assert!(
            sign1
                .verify_signature(b"", |signature, message| if check(signature, message) { Ok(()) } else { Err(()) })
                .is_ok()
        );
        // And writes it in the same bytes.
        assert_eq!(sign1.to_vec().unwrap(), token());
    }

    /// Another implementation of CBOR reads every claim.
    #[test]
    fn claims_are_what_ciborium_reads() {
        let value = coset::cbor::value::Value::from_slice(&claims().encode().unwrap()).unwrap();
        let entries = value.as_map().unwrap();
        let keys: Vec<i64> = entries.iter().map(|(key, _)| key.as_integer().unwrap().try_into().unwrap()).collect();
        assert_eq!(keys, [6, 10, 265, -70001, -70002, -70003]);
        assert_eq!(entries[1].1.as_bytes().unwrap(), claims().nonce.as_bytes());
        let host = entries[3].1.as_map().unwrap();
        let kernel = host.iter().find(|(key, _)| key.as_text() == Some("kernel")).unwrap();
        assert_eq!(kernel.1.as_text(), Some("6.12.57-test"));
    }

    #[test]
    fn open_every_single_bit_flip_is_refused() {
        let (token, key) = (token(), key().public());
        for bit in 0..token.len() * 8 {
            let mut flipped = token.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&flipped, &key).is_err(), "bit {bit} of {}", token.len() * 8);
        }
    }

    #[test]
    fn open_every_truncation_and_every_byte_more_is_refused() {
        let (token, key) = (token(), key().public());
        for end in 0..token.len() {
            assert!(open(&token[..end], &key).is_err(), "{end} bytes");
        }
        for byte in 0..=u8::MAX {
            let longer = [token.as_slice(), &[byte]].concat();
            assert!(
                matches!(open(&longer, &key), Err(Error::Encoding { source: cbor::Error::Trailing(1), .. })),
                "{byte}"
            );
        }
    }

    #[test]
    fn open_wrong_key_is_refused() {
        assert!(matches!(open(&token(), &other_key().public()), Err(Error::Key)));
        // One that calls itself by the right name.
        let protected = header(key().public()).encode().unwrap();
        let forged = sign_parts(&protected, &claims().encode().unwrap(), &other_key());
        assert!(matches!(open(&forged, &key().public()), Err(Error::Signature)));
    }

    /// Headers that the right key has signed, and that are not the profile's.
    #[test]
    fn open_other_algorithm_or_header_is_refused() {
        let Value::Map(good) = header(key().public()) else { unreachable!() };
        let refused = |entries: Vec<(Value, Value)>| {
            let protected = Value::Map(entries).encode().unwrap();
            open(&sign_parts(&protected, &claims().encode().unwrap(), &key()), &key().public()).unwrap_err()
        };
        // ES256, ES384, Ed25519 (RFC 9864), HMAC 256, none, and one in words.
        for algorithm in [Value::from(-7), (-35).into(), (-19).into(), 5.into(), Value::Null, "EdDSA".into()] {
            let mut entries = good.clone();
            entries[0].1 = algorithm;
            assert!(matches!(refused(entries), Error::Algorithm));
        }
        for missing in 0..3 {
            let mut entries = good.clone();
            entries.remove(missing);
            assert!(matches!(refused(entries), Error::Header), "{missing}");
        }
        let with = |key: i64, value: Value| [good.clone(), vec![(key.into(), value)]].concat();
        // crit, which a verifier that does not understand it must not pass over.
        assert!(matches!(refused(with(2, Value::Array(vec![100.into()]))), Error::Header));
        let mut entries = good.clone();
        entries[2].1 = "application/cwt".into();
        assert!(matches!(refused(entries), Error::Type));
    }

    /// Encodings of the right claims that the right key has signed, none of them the one.
    #[test]
    fn open_non_deterministic_encoding_is_refused() {
        let (protected, payload) = (header(key().public()).encode().unwrap(), claims().encode().unwrap());
        let refused = |token: &[u8]| match open(token, &key().public()) {
            Err(Error::Encoding { part, source }) => format!("{part}: {source:?}"),
            other => format!("{other:?}"),
        };
        let signed = |payload: &[u8]| refused(&sign_parts(&protected, payload, &key()));
        assert_eq!(payload[..2], [0xa6, 0x06]);
        assert_eq!(signed(&[&[0xb8, 6], &payload[1..]].concat()), "payload: NotShortest(0)");
        assert_eq!(signed(&[&[0xa6, 0x18, 6], &payload[2..]].concat()), "payload: NotShortest(1)");
        assert_eq!(signed(&[&[0xbf], &payload[1..], &[0xff]].concat()), "payload: Indefinite(0)");
        assert_eq!(signed(&[&[0xd8, 61], payload.as_slice()].concat()), "payload: Tag(0)");
        assert_eq!(signed(&[payload.as_slice(), &[0]].concat()), "payload: Trailing(1)");
        assert_eq!(signed(&[&[0xa7, 6, 0], &payload[1..]].concat()), "payload: DuplicateKey(3)");
        assert_eq!(signed(&[&[0xa7, 7, 0], &payload[1..]].concat()), "payload: KeyOrder(3)");

        let token = sign_parts(&protected, &payload, &key());
        assert_eq!(refused(&[&[0xd2], token.as_slice()].concat()), "token: Tag(0)");
        assert_eq!(refused(&[&[0x98, 4], &token[1..]].concat()), "token: NotShortest(0)");
        assert_eq!(refused(&[&[0x9f], &token[1..], &[0xff]].concat()), "token: Indefinite(0)");
        let indefinite = [&[0xbf], &protected[1..], &[0xff]].concat();
        assert_eq!(refused(&sign_parts(&indefinite, &payload, &key())), "protected header: Indefinite(0)");
    }

    #[test]
    fn open_what_is_no_cose_sign1_is_refused() {
        let Value::Array(good) = Value::decode(&token()).unwrap() else { unreachable!() };
        let structure = |parts: Vec<Value>| {
            let token = Value::Array(parts).encode().unwrap();
            assert!(matches!(open(&token, &key().public()), Err(Error::Structure)), "{token:x?}");
        };
        structure(good[..3].to_vec());
        structure([good.clone(), vec![Value::Null]].concat());
        for at in 0..4 {
            let mut parts = good.clone();
            parts[at] = Value::Null;
            structure(parts);
        }
        let mut parts = good.clone();
        parts[1] = Value::Map(vec![(KEY_ID.into(), Value::Bytes(Vec::new()))]);
        structure(parts);
        let mut parts = good;
        parts[3] = Value::Bytes(vec![0; 63]);
        structure(parts);
    }

    proptest::proptest! {
        #[test]
        fn open_any_bytes_never_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
            proptest::prop_assert!(open(&bytes, &key().public()).is_err());
        }

        #[test]
        fn open_any_payload_under_a_good_signature_never_panics(
            payload in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..100),
        ) {
            let protected = header(key().public()).encode().unwrap();
            proptest::prop_assert!(open(&sign_parts(&protected, &payload, &key()), &key().public()).is_err());
        }
    }
}
