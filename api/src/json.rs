// SPDX-License-Identifier: Apache-2.0
//! JSON as clients send it, read strictly: what could be meant in two ways is an error.

use std::fmt;

use serde::de::{self, Deserialize, DeserializeOwned, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::action::Fault;

/// How deep values may lie in each other. The thread that reads them has a small stack, and `serde_json` allows 128.
const DEPTH: usize = 32;

/// Reads a resource. Repeated fields are refused by `serde_derive`.
pub(crate) fn from_slice<T: DeserializeOwned>(body: &[u8]) -> Result<T, Fault> {
    if depth(body) > DEPTH {
        return Err(Fault::new(format!("The body is not valid: it is nested more than {DEPTH} levels deep")));
    }
    serde_json::from_slice(body).map_err(|err| Fault::new(format!("The body is not valid: {err}")))
}

/// How deep brackets lie in each other at most, those in strings left out. Of a body that is not JSON it may be any
/// number.
fn depth(body: &[u8]) -> usize {
    let (mut depth, mut most, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in body {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => depth += 1,
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        most = most.max(depth);
    }
    most
}

/// Reads any object in which no key is repeated, at any depth.
pub(crate) fn object_from_slice(body: &[u8]) -> Result<Map<String, Value>, Fault> {
    match from_slice(body)? {
        Strict(Value::Object(object)) => Ok(object),
        Strict(_) => Err(Fault::new("The body is not valid: it has to be a JSON object")),
    }
}

/// A value in which no key is repeated; of two, `serde_json::Value` would drop one in silence.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Self)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Strict(value)) = access.next_element()? {
            values.push(value);
        }
        Ok(values.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            if object.contains_key(&key) {
                return Err(de::Error::custom(format_args!("repeated key `{key}`")));
            }
            let Strict(value) = access.next_value()?;
            object.insert(key, value);
        }
        Ok(object.into())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn object_of_every_kind_is_read() {
        let text = r#"{"a": null, "b": [true, 1, -1, 1.5, "x", {}], "c": {"a": 1}}"#;
        let expected = json!({"a": null, "b": [true, 1, -1, 1.5, "x", {}], "c": {"a": 1}});
        assert_eq!(Value::from(object_from_slice(text.as_bytes()).unwrap()), expected);
    }

    #[test]
    fn object_ambiguous_or_malformed_is_refused() {
        for (text, message) in [
            (r#"{"a": 1, "a": 1}"#, "repeated key `a`"),
            (r#"{"a": [{"b": 1, "c": 2, "b": 3}]}"#, "repeated key `b`"),
            ("[]", "has to be a JSON object"),
            ("{} {}", "trailing characters"),
            ("{", "EOF"),
            ("\u{feff}{}", "expected value"),
            (r#"{"a": 1e999}"#, "number out of range"),
        ] {
            let fault = object_from_slice(text.as_bytes()).unwrap_err();
            assert!(fault.message().contains(message), "{text}: {fault}");
        }
        for deep in ["[".repeat(100_000), format!("{}{}", r#"{"a":"#.repeat(33), "1") + &"}".repeat(33)] {
            let fault = object_from_slice(deep.as_bytes()).unwrap_err();
            assert!(fault.message().contains("32 levels"), "{fault}");
        }
        let fine = format!("{}{}", r#"{"[[\"[":"#.repeat(32), "1") + &"}".repeat(32);
        object_from_slice(fine.as_bytes()).unwrap();
        assert!(object_from_slice(b"{\"a\": \"\xff\"}").is_err());
    }
}
