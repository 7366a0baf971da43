// SPDX-License-Identifier: Apache-2.0
//! Structs that are read from JSON objects and nothing else. What serde derives by itself also takes
//! an array of the fields in order, `["/vmlinux"]`, which is no part of the API.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};

/// What serde derives for a struct with `remote = "Self"`.
pub(super) trait Derived<'de>: Sized {
    /// Reads a map or a sequence.
    fn derived<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error>;
}

/// Reads a map.
pub(super) fn read<'de, T: Derived<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    deserializer.deserialize_map(ObjectVisitor(PhantomData))
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Derived<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, access: A) -> Result<T, A::Error> {
        T::derived(MapAccessDeserializer::new(access))
    }
}

/// Makes structs, which derive `Deserialize` and `Serialize` with `remote = "Self"`, objects.
macro_rules! objects {
    ($($object:ty),+ $(,)?) => { $(
        impl<'de> object::Derived<'de> for $object {
            fn derived<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                // Of two functions of a name Rust takes the type's own, not the trait's.
                <$object>::deserialize(deserializer)
            }
        }

        impl<'de> serde::Deserialize<'de> for $object {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                object::read(deserializer)
            }
        }

        impl serde::Serialize for $object {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                <$object>::serialize(self, serializer)
            }
        }
    )+ };
}
pub(super) use objects;
