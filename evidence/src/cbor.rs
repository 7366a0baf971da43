// SPDX-License-Identifier: Apache-2.0
//! Deterministic CBOR (RFC 8949, 4.2.1), of which a value has exactly one encoding.
//!
//! What evidence has no use for does not exist here: tags, floats, indefinite lengths, `undefined`.

use std::convert::Infallible;

use minicbor::data::{Int, Type};
use minicbor::{Decoder, Encoder, decode, encode};

/// The most bytes of anything that is read.
pub const MAX_LEN: usize = 64 << 10;
/// The most maps and arrays within each other.
const MAX_DEPTH: usize = 8;

/// Writing cannot fail for want of room; minicbor's type says so in its own way.
pub type EncodeError = encode::Error<Infallible>;

/// A value.
///
/// ```
/// use secretvmm_evidence::cbor::{Error, Value};
///
/// let value = Value::Map(vec![(1.into(), "one".into())]);
/// let bytes = value.encode()?;
/// assert_eq!(Value::decode(&bytes)?, value);
/// // The number 5 in two bytes, where one is enough.
/// assert!(matches!(Value::decode(&[0x18, 5]), Err(Error::NotShortest(0))));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Major types 0 and 1.
    Int(Int),
    /// Major type 2.
    Bytes(Vec<u8>),
    /// Major type 3.
    Text(String),
    /// Major type 4.
    Array(Vec<Value>),
    /// Major type 5. The order does not matter, it is made when the map is encoded.
    Map(Vec<(Value, Value)>),
    /// `false` and `true`.
    Bool(bool),
    /// `null`.
    Null,
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(value.into())
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

/// Why bytes are not the one encoding of a value.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// More than [`MAX_LEN`].
    #[error("It is larger than {MAX_LEN} bytes")]
    TooLarge,
    /// Maps in maps in maps.
    #[error("It is nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// No CBOR at all.
    #[error("It is no CBOR")]
    Malformed(#[from] decode::Error),
    /// A number or length that fits into fewer bytes.
    #[error("The number or length at byte {0} is not in its shortest form")]
    NotShortest(usize),
    /// A length that is told only by the end.
    #[error("The item at byte {0} has an indefinite length")]
    Indefinite(usize),
    /// A tag.
    #[error("There is a tag at byte {0}")]
    Tag(usize),
    /// A float, `undefined`, or a simple value that nobody has defined.
    #[error("The item at byte {0} is of a kind that evidence has no use for")]
    Kind(usize),
    /// A map whose keys are not sorted.
    #[error("The key at byte {0} is not behind the one before it")]
    KeyOrder(usize),
    /// A key that is there twice.
    #[error("The key at byte {0} is there twice")]
    DuplicateKey(usize),
    /// More bytes than the value has.
    #[error("{0} bytes are left over behind it")]
    Trailing(usize),
}

impl Value {
    /// The one encoding.
    ///
    /// # Errors
    /// None that could happen.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        let mut encoder = Encoder::new(Vec::new());
        self.write(&mut encoder)?;
        Ok(encoder.into_writer())
    }

    fn write(&self, encoder: &mut Encoder<Vec<u8>>) -> Result<(), EncodeError> {
        match self {
            Self::Int(int) => encoder.int(*int)?,
            Self::Bytes(bytes) => encoder.bytes(bytes)?,
            Self::Text(text) => encoder.str(text)?,
            Self::Bool(value) => encoder.bool(*value)?,
            Self::Null => encoder.null()?,
            Self::Array(values) => {
                encoder.array(values.len() as u64)?;
                values.iter().try_for_each(|value| value.write(encoder))?;
                encoder
            }
            Self::Map(entries) => {
                let encoded = entries.iter().map(|(key, value)| Ok((key.encode()?, value)));
                let mut sorted = encoded.collect::<Result<Vec<_>, EncodeError>>()?;
                sorted.sort_by(|(one, _), (other, _)| one.cmp(other));
                encoder.map(sorted.len() as u64)?;
                for (key, value) in sorted {
                    encoder.writer_mut().extend_from_slice(&key);
                    value.write(encoder)?;
                }
                encoder
            }
        };
        Ok(())
    }

    /// Reads the one encoding of a value, and nothing else.
    ///
    /// # Errors
    /// It is another encoding, or none.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() > MAX_LEN {
            return Err(Error::TooLarge);
        }
        let mut decoder = Decoder::new(bytes);
        let value = Self::read(&mut decoder, 0)?;
        match bytes.len().saturating_sub(decoder.position()) {
            0 => Ok(value),
            left => Err(Error::Trailing(left)),
        }
    }

    fn read(decoder: &mut Decoder<'_>, depth: usize) -> Result<Self, Error> {
        if depth > MAX_DEPTH {
            return Err(Error::TooDeep);
        }
        let start = decoder.position();
        match decoder.datatype()? {
            Type::Bool => Ok(Self::Bool(decoder.bool()?)),
            Type::Null => {
                decoder.null()?;
                Ok(Self::Null)
            }
            Type::Bytes => {
                let bytes = decoder.bytes()?;
                shortest(start, decoder.position().saturating_sub(bytes.len()), bytes.len() as u64)?;
                Ok(Self::Bytes(bytes.to_vec()))
            }
            Type::String => {
                let text = decoder.str()?;
                shortest(start, decoder.position().saturating_sub(text.len()), text.len() as u64)?;
                Ok(Self::Text(text.to_owned()))
            }
            Type::Array => {
                let count = decoder.array()?.ok_or(Error::Indefinite(start))?;
                shortest(start, decoder.position(), count)?;
                // A count that lies ends with the input.
                (0..count).map(|_| Self::read(decoder, depth + 1)).collect::<Result<_, _>>().map(Self::Array)
            }
            Type::Map => {
                let count = decoder.map()?.ok_or(Error::Indefinite(start))?;
                shortest(start, decoder.position(), count)?;
                Self::read_entries(decoder, count, depth).map(Self::Map)
            }
            Type::BytesIndef | Type::StringIndef | Type::ArrayIndef | Type::MapIndef | Type::Break => {
                Err(Error::Indefinite(start))
            }
            Type::Tag => Err(Error::Tag(start)),
            kind if is_int(kind) => {
                let int = decoder.int()?;
                shortest(start, decoder.position(), argument(int))?;
                Ok(Self::Int(int))
            }
            _ => Err(Error::Kind(start)),
        }
    }

    fn read_entries(decoder: &mut Decoder<'_>, count: u64, depth: usize) -> Result<Vec<(Self, Self)>, Error> {
        let input = decoder.input();
        let mut entries = Vec::new();
        let mut last: Option<&[u8]> = None;
        for _ in 0..count {
            let start = decoder.position();
            let key = Self::read(decoder, depth + 1)?;
            let encoded = input.get(start..decoder.position()).unwrap_or_default();
            match last.map(|last| last.cmp(encoded)) {
                Some(std::cmp::Ordering::Equal) => return Err(Error::DuplicateKey(start)),
                Some(std::cmp::Ordering::Greater) => return Err(Error::KeyOrder(start)),
                _ => last = Some(encoded),
            }
            entries.push((key, Self::read(decoder, depth + 1)?));
        }
        Ok(entries)
    }
}

fn is_int(kind: Type) -> bool {
    use Type::{I8, I16, I32, I64, Int, U8, U16, U32, U64};
    matches!(kind, U8 | U16 | U32 | U64 | I8 | I16 | I32 | I64 | Int)
}

/// What an integer's head carries: the number, or for a negative one -1 - the number.
fn argument(int: Int) -> u64 {
    let wide = i128::from(int);
    u64::try_from(wide).unwrap_or_else(|_| u64::try_from(-1 - wide).unwrap_or(u64::MAX))
}

/// Whether a head from `start` to `end` is as short as its argument allows.
fn shortest(start: usize, end: usize, argument: u64) -> Result<(), Error> {
    let least = match argument {
        0..=23 => 1,
        24..=0xff => 2,
        0x100..=0xffff => 3,
        0x1_0000..=0xffff_ffff => 5,
        _ => 9,
    };
    if end.saturating_sub(start) == least { Ok(()) } else { Err(Error::NotShortest(start)) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(hex: &str) -> Vec<u8> {
        base16ct::lower::decode_vec(hex).unwrap()
    }

    #[test]
    fn encode_is_what_rfc_8949_says() {
        let map = Value::Map(vec![
            (Value::from("aa"), Value::Bool(true)),
            (Value::from(-1), Value::Null),
            (Value::from("b"), Value::Array(vec![Value::from(100), Value::Int(u64::MAX.into())])),
            (Value::from(10), Value::Bytes(vec![1, 2])),
        ]);
        // Order by the keys' bytes: 0a, 20, 61.., 62...
        let expected = "a40a42010220f6616282".to_owned() + "18641bffffffffffffffff" + "626161f5";
        assert_eq!(map.encode().unwrap(), bytes(&expected));
    }

    #[test]
    fn decode_every_other_encoding_is_refused() {
        for (hex, error) in [
            ("1805", "NotShortest(0)"),
            ("190005", "NotShortest(0)"),
            ("1b0000000000000005", "NotShortest(0)"),
            ("3805", "NotShortest(0)"),
            ("1a0000ffff", "NotShortest(0)"),
            ("5801ff", "NotShortest(0)"),
            ("780161", "NotShortest(0)"),
            ("980100", "NotShortest(0)"),
            ("b8010000", "NotShortest(0)"),
            ("81a11801f6", "NotShortest(2)"),
            ("5f4101ff", "Indefinite(0)"),
            ("7f6161ff", "Indefinite(0)"),
            ("9f00ff", "Indefinite(0)"),
            ("bf0000ff", "Indefinite(0)"),
            ("ff", "Indefinite(0)"),
            ("d28000", "Tag(0)"),
            ("c100", "Tag(0)"),
            ("81d9d9f700", "Tag(1)"),
            ("f93c00", "Kind(0)"),
            ("fa3f800000", "Kind(0)"),
            ("fb3ff0000000000000", "Kind(0)"),
            ("f7", "Kind(0)"),
            ("e0", "Kind(0)"),
            ("f8ff", "Kind(0)"),
            ("a201000000", "KeyOrder(3)"),
            ("a2626161006162 00", "KeyOrder(5)"),
            ("a201000100", "DuplicateKey(3)"),
            ("0000", "Trailing(1)"),
            ("f6f6f6", "Trailing(2)"),
            ("818181818181818181818100", "TooDeep"),
        ] {
            let result = Value::decode(&bytes(&hex.replace(' ', "")));
            assert_eq!(format!("{:?}", result.unwrap_err()), error, "{hex}");
        }
        for hex in ["", "18", "41", "61ff", "61", "81", "a1", "a100", "1c", "fc", "9bffffffffffffffff", "f814"] {
            assert!(Value::decode(&bytes(hex)).is_err(), "{hex}");
        }
        assert!(matches!(Value::decode(&vec![0; MAX_LEN + 1]), Err(Error::TooLarge)));
    }

    /// As many levels of arrays, of maps as values and of maps as keys as there may be, and one more.
    #[test]
    fn decode_of_the_largest_and_the_deepest_is_the_limit() {
        for (open, close) in [("81", ""), ("a100", ""), ("a1", "00")] {
            let nested = |levels| bytes(&(open.repeat(levels) + "00" + &close.repeat(levels)));
            assert!(Value::decode(&nested(MAX_DEPTH)).is_ok(), "{open}");
            assert!(matches!(Value::decode(&nested(MAX_DEPTH + 1)), Err(Error::TooDeep)), "{open}");
        }
        let largest = Value::Bytes(vec![0; MAX_LEN - 3]).encode().unwrap();
        assert_eq!(largest.len(), MAX_LEN);
        assert!(Value::decode(&largest).is_ok());
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<u64>().prop_map(|int| Value::Int(int.into())),
            any::<i64>().prop_map(Value::from),
            (-300..300_i64).prop_map(Value::from),
            proptest::collection::vec(any::<u8>(), 0..40).prop_map(Value::Bytes),
            "[a-zé]{0,30}".prop_map(Value::Text),
            any::<bool>().prop_map(Value::Bool),
            Just(Value::Null),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            let key = prop_oneof![(-300..300_i64).prop_map(Value::from), "[a-z]{0,30}".prop_map(Value::Text)];
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
                proptest::collection::vec((key, inner), 0..6).prop_map(|mut entries| {
                    entries.sort_by_key(|(key, _)| key.encode().unwrap());
                    entries.dedup_by(|one, other| one.0 == other.0);
                    Value::Map(entries)
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn decode_reads_what_encode_wrote(value in any_value()) {
            prop_assert_eq!(Value::decode(&value.encode().unwrap()).unwrap(), value);
        }

        #[test]
        fn decode_any_bytes_never_panic_and_have_one_encoding(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(value) = Value::decode(&bytes) {
                prop_assert_eq!(value.encode().unwrap(), bytes);
            }
        }

        #[test]
        fn decode_changed_bytes_never_panic_and_have_one_encoding(
            value in any_value(), at in any::<proptest::sample::Index>(), byte: u8,
        ) {
            let mut bytes = value.encode().unwrap();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if let Ok(value) = Value::decode(&bytes) {
                prop_assert_eq!(value.encode().unwrap(), bytes);
            }
        }
    }
}
