// SPDX-License-Identifier: Apache-2.0
//! Between claims and CBOR: every claim that is there is known, every known one is there.

use super::cbor::Value;
use super::hex::{BuildId, Digest, Nonce};

/// A claim that a token of the profile cannot have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Claim {claim} {why}")]
pub struct ClaimError {
    /// Where it is: `host.kexec`.
    claim: String,
    /// What is wrong with it.
    why: &'static str,
}

impl ClaimError {
    fn within(self, outer: &Value) -> Self {
        let outer = name(outer);
        let claim = if self.claim.is_empty() { outer } else { format!("{outer}.{}", self.claim) };
        Self { claim, ..self }
    }
}

/// A claim that is there but is not what it should be.
fn wrong() -> ClaimError {
    ClaimError { claim: String::new(), why: "is not of its type" }
}

fn name(key: &Value) -> String {
    match key {
        Value::Text(text) => text.clone(),
        Value::Int(int) => int.to_string(),
        other => format!("{other:?}"),
    }
}

/// What can be a claim's value.
pub(super) trait Claim: Sized {
    /// As CBOR.
    fn to_value(&self) -> Value;

    /// From CBOR.
    fn from_value(value: Value) -> Result<Self, ClaimError>;
}

impl Claim for u64 {
    fn to_value(&self) -> Value {
        Value::Int((*self).into())
    }

    fn from_value(value: Value) -> Result<Self, ClaimError> {
        match value {
            Value::Int(int) => int.try_into().map_err(|_| wrong()),
            _ => Err(wrong()),
        }
    }
}

impl Claim for bool {
    fn to_value(&self) -> Value {
        Value::Bool(*self)
    }

    fn from_value(value: Value) -> Result<Self, ClaimError> {
        if let Value::Bool(value) = value { Ok(value) } else { Err(wrong()) }
    }
}

impl Claim for String {
    fn to_value(&self) -> Value {
        Value::Text(self.clone())
    }

    fn from_value(value: Value) -> Result<Self, ClaimError> {
        if let Value::Text(text) = value { Ok(text) } else { Err(wrong()) }
    }
}

/// None, which is `null`, is for what is not known.
impl<T: Claim> Claim for Option<T> {
    fn to_value(&self) -> Value {
        self.as_ref().map_or(Value::Null, Claim::to_value)
    }

    fn from_value(value: Value) -> Result<Self, ClaimError> {
        if value == Value::Null { Ok(None) } else { T::from_value(value).map(Some) }
    }
}

impl<T: Claim> Claim for Vec<T> {
    fn to_value(&self) -> Value {
        Value::Array(self.iter().map(Claim::to_value).collect())
    }

    fn from_value(value: Value) -> Result<Self, ClaimError> {
        let Value::Array(values) = value else { return Err(wrong()) };
        values.into_iter().map(T::from_value).collect()
    }
}

macro_rules! bytes {
    ($($name:ident),+) => { $(
        impl Claim for $name {
            fn to_value(&self) -> Value {
                Value::Bytes(self.as_bytes().to_vec())
            }

            fn from_value(value: Value) -> Result<Self, ClaimError> {
                let Value::Bytes(bytes) = value else { return Err(wrong()) };
                bytes.as_slice().try_into().map_err(|_| wrong())
            }
        }
    )+ };
}
bytes!(BuildId, Digest, Nonce);

/// A map that is taken apart.
pub(super) struct Fields(Vec<(Value, Value)>);

impl Fields {
    pub(super) fn of(value: Value) -> Result<Self, ClaimError> {
        if let Value::Map(entries) = value { Ok(Self(entries)) } else { Err(wrong()) }
    }

    pub(super) fn take<T: Claim>(&mut self, key: impl Into<Value>) -> Result<T, ClaimError> {
        let key = key.into();
        let Some(at) = self.0.iter().position(|(other, _)| *other == key) else {
            return Err(ClaimError { claim: name(&key), why: "is missing" });
        };
        let (_, value) = self.0.swap_remove(at);
        T::from_value(value).map_err(|err| err.within(&key))
    }

    /// To be called when all is taken.
    pub(super) fn end(self) -> Result<(), ClaimError> {
        match self.0.first() {
            Some((key, _)) => Err(ClaimError { claim: name(key), why: "is not part of this profile" }),
            None => Ok(()),
        }
    }
}

/// Makes a struct whose fields are the claims of a map, each with its key.
macro_rules! claims {
    ($(#[$meta:meta])* pub struct $name:ident { $($(#[$about:meta])* $key:literal => $field:ident: $type:ty,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name { $($(#[$about])* pub $field: $type,)+ }

        impl $crate::claim::Claim for $name {
            fn to_value(&self) -> Value {
                Value::Map(vec![$((Value::from($key), self.$field.to_value()),)+])
            }

            fn from_value(value: Value) -> Result<Self, ClaimError> {
                let mut fields = Fields::of(value)?;
                let claims = Self { $($field: fields.take($key)?,)+ };
                fields.end()?;
                Ok(claims)
            }
        }
    };
}

/// Makes an enum whose values are words, in tokens and in policies.
macro_rules! words {
    ($(#[$meta:meta])* pub enum $name:ident { $($(#[$about:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
        pub enum $name { $($(#[$about])* #[serde(rename = $word)] $variant,)+ }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(match self { $(Self::$variant => $word,)+ })
            }
        }

        impl $crate::claim::Claim for $name {
            fn to_value(&self) -> Value {
                Value::Text(self.to_string())
            }

            fn from_value(value: Value) -> Result<Self, ClaimError> {
                match String::from_value(value)?.as_str() {
                    $($word => Ok(Self::$variant),)+
                    _ => Err($crate::claim::unknown_word()),
                }
            }
        }
    };
}

pub(super) fn unknown_word() -> ClaimError {
    ClaimError { claim: String::new(), why: "is not one of the values that this profile has for it" }
}

pub(super) use {claims, words};
