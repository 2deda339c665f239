//! JSON in which no object names a thing twice.
//!
//! RFC 8259 §4 leaves it open what a name means that stands there twice, and the common readers
//! keep the last value: whoever wrote both is not told that one of them counts for nothing. No
//! client of Magnum sends such a body, for all of them write it from a map.

use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Why a text is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unread {
    /// It is not what it should be at all.
    Malformed,
    /// The object called `within`, or the whole text if that has no name, names `name` twice.
    Repeated { within: Option<String>, name: String },
}

/// Reads JSON; what is nested more than 128 deep is malformed, as serde_json has it.
pub fn read(bytes: &[u8]) -> Result<Value, Unread> {
    let repeated = RefCell::new(None);
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let seed = Seed { within: None, repeated: &repeated };
    let value = seed.deserialize(&mut reader).and_then(|value| reader.end().map(|()| value));
    value.map_err(|_| repeated.into_inner().unwrap_or(Unread::Malformed))
}

#[derive(Clone, Copy)]
struct Seed<'s> {
    /// What the value is called.
    within: Option<&'s str>,
    repeated: &'s RefCell<Option<Unread>>,
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(name) = entries.next_key::<String>()? {
            if map.contains_key(&name) {
                let within = self.within.map(str::to_owned);
                *self.repeated.borrow_mut() = Some(Unread::Repeated { within, name });
                return Err(A::Error::custom("a name that stands there twice"));
            }
            let value = entries.next_value_seed(Seed { within: Some(&name), ..self })?;
            map.insert(name, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_named_twice_is_said() {
        let repeated = |text: &str| match read(text.as_bytes()) {
            Err(Unread::Repeated { within, name }) => Some((within.unwrap_or_default(), name)),
            _ => None,
        };
        let of = |within: &str, name: &str| Some((within.to_owned(), name.to_owned()));
        assert_eq!(repeated(r#"{"name": "a", "name": "a"}"#), of("", "name"));
        assert_eq!(repeated(r#"{"labels": {"a": 1, "b": 2, "\u0061": 3}}"#), of("labels", "a"));
        assert_eq!(repeated(r#"[{"value": [{"k": 1, "k": 2}]}]"#), of("value", "k"));
        assert_eq!(repeated(r#"[{"op": "add"}, {"op": "add"}]"#), None);
        assert_eq!(repeated(r#"{"a": {"a": {"a": 1}}, "A": 1}"#), None);
        assert_eq!(read(br#"{"a": 1"#), Err(Unread::Malformed));
        assert_eq!(read(br#"{"a": 1} x"#), Err(Unread::Malformed));
        assert_eq!(read("[".repeat(100_000).as_bytes()), Err(Unread::Malformed));
    }

    proptest! {
        /// Whatever is written from a map is read as serde_json reads it.
        #[test]
        fn whatever_a_map_gives_is_read(
            map in proptest::collection::btree_map("[a-c\"\\\\é]{0,3}", any::<(i64, u64, f64)>(), 0..4),
            text in ".{0,20}",
        ) {
            let whole = json!({"map": map, "list": [text, null, true], "n": -1});
            let bytes = whole.to_string();
            prop_assert_eq!(read(bytes.as_bytes()).ok(), serde_json::from_str(&bytes).ok());
        }

        #[test]
        fn no_text_panics(text in "[\\[\\]{}:,\"a0-9.e\\\\ -]{0,60}") {
            if let Ok(value) = read(text.as_bytes()) {
                prop_assert_eq!(serde_json::from_str::<Value>(&text).ok(), Some(value));
            }
        }
    }
}
