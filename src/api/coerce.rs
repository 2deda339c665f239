//! Request bodies: JSON in, typed fields out, with Magnum's leniency and its sentences.
//!
//! Numbers may come as text, booleans as words, `null` means "not given". What is of the
//! wrong kind is refused by name, with the value as sent and what it should be.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use super::error::{ApiError, Outcome};
use super::unrepeated::{self, Unread};
use crate::model::labels::Labels;

/// The attributes of a request's object, taken one by one.
#[derive(Clone, Debug)]
pub struct Fields {
    map: Map<String, Value>,
}

/// What most texts may be.
pub const SHORT_TEXT: RangeInclusive<usize> = 1..=255;

/// Reads a body that must be JSON; `argument` is what the handler calls it.
pub fn json(bytes: &[u8], argument: &str) -> Outcome<Value> {
    if bytes.is_empty() {
        return Err(ApiError::invalid(format!("Missing argument: \"{argument}\"")));
    }
    unrepeated::read(bytes).map_err(|e| match e {
        Unread::Malformed => ApiError::invalid("Request is not in valid JSON format"),
        Unread::Repeated { within, name } => repeated(within.as_deref().unwrap_or(argument), &name),
    })
}

/// A map in which a name has two values, of which one would be lost.
pub fn repeated(map: &str, name: &str) -> ApiError {
    let name: String = name.chars().take(100).collect();
    ApiError::field(map, name, "The name stands there twice. Give it once, with the value meant.")
}

/// A value in a sentence: text as it is, the rest as JSON.
pub fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "None".to_owned(),
        other => other.to_string(),
    }
}

impl Fields {
    /// The object of `argument`, if it has only `known` attributes and none that is
    /// `read_only`.
    pub fn new(argument: &str, value: Value, known: &[&str], read_only: &[&str]) -> Outcome<Self> {
        let Value::Object(map) = value else {
            return Err(ApiError::field(argument, shown(&value), "Value should be an object."));
        };
        for (name, value) in &map {
            if read_only.contains(&name.as_str()) && !value.is_null() {
                let why = "Cannot set read only field.";
                return Err(ApiError::field(name, shown(value), why));
            }
            if !known.contains(&name.as_str()) && !read_only.contains(&name.as_str()) {
                let name: String = name.chars().take(100).collect();
                return Err(ApiError::invalid(format!(
                    "Unknown attribute for argument {argument}: {name}"
                )));
            }
        }
        Ok(Self { map })
    }

    /// The attributes of an object that we made ourselves.
    pub fn of(map: Map<String, Value>) -> Self {
        Self { map }
    }

    /// Whether the attribute was given.
    pub fn has(&self, name: &str) -> bool {
        self.map.get(name).is_some_and(|value| !value.is_null())
    }

    /// The attribute as it was sent.
    pub fn value(&mut self, name: &str) -> Option<Value> {
        self.take(name)
    }

    /// A list of short texts; numbers are taken for the text they print as.
    pub fn texts(&mut self, name: &str, most: usize) -> Outcome<Option<Vec<String>>> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let odd = |why: &str| ApiError::field(name, shown(&value), why);
        let Value::Array(items) = &value else {
            return Err(odd("Value should be a list of texts."));
        };
        if items.len() > most {
            return Err(odd(&format!("Value should have at most {most} entries.")));
        }
        let texts = items.iter().map(|item| match item {
            Value::String(text)
                if SHORT_TEXT.contains(&text.chars().count())
                    && !text.contains(char::is_control) =>
            {
                Ok(text.clone())
            }
            Value::Number(number) if number.is_u64() => Ok(number.to_string()),
            _ => Err(odd("Value should be a list of texts of 1 to 255 characters.")),
        });
        Ok(Some(texts.collect::<Outcome<_>>()?))
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        self.map.get_mut(name).map(Value::take).filter(|value| !value.is_null())
    }

    /// One line of so many characters.
    pub fn text(&mut self, name: &str, length: RangeInclusive<usize>) -> Outcome<Option<String>> {
        let Some(text) = self.block(name, length)? else { return Ok(None) };
        if text.contains(char::is_control) {
            let why = "Value should have no control characters.";
            return Err(ApiError::field(name, text.escape_debug(), why));
        }
        Ok(Some(text))
    }

    /// Text of any number of lines.
    pub fn block(&mut self, name: &str, length: RangeInclusive<usize>) -> Outcome<Option<String>> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let Value::String(text) = value else {
            return Err(ApiError::field(name, shown(&value), "Value should be string"));
        };
        let characters = text.chars().count();
        if characters < *length.start() {
            let least = length.start();
            let why = format!("Value should have a minimum character requirement of {least}");
            return Err(ApiError::field(name, text, why));
        }
        if characters > *length.end() {
            let most = length.end();
            let why = format!("Value should have a maximum character requirement of {most}");
            return Err(ApiError::field(name, text, why));
        }
        Ok(Some(text))
    }

    pub fn required_text(&mut self, name: &str) -> Outcome<String> {
        self.text(name, SHORT_TEXT)?.ok_or_else(|| mandatory(name))
    }

    /// A whole number, also as `1.0`. Magnum cuts fractions off; a cluster that is asked to have
    /// `1.5` nodes would lose those that it has above one, and nobody would have asked for that.
    pub fn whole(&mut self, name: &str, range: RangeInclusive<u32>) -> Outcome<Option<u32>> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let number = match &value {
            Value::Number(number) => {
                number.as_i64().or_else(|| number.as_f64().and_then(undivided))
            }
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        let Some(number) = number else {
            let why = "Value should be a whole number.";
            return Err(ApiError::field(name, shown(&value), why));
        };
        if number < i64::from(*range.start()) {
            let least = range.start();
            let why = format!("Value should be greater or equal to {least}");
            return Err(ApiError::field(name, shown(&value), why));
        }
        match u32::try_from(number) {
            Ok(number) if range.contains(&number) => Ok(Some(number)),
            _ => {
                let why = format!("Value should be lesser or equal to {}", range.end());
                Err(ApiError::field(name, shown(&value), why))
            }
        }
    }

    pub fn flag(&mut self, name: &str) -> Outcome<Option<bool>> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let flag = match &value {
            Value::Bool(flag) => Some(*flag),
            Value::Number(number) => match number.as_i64() {
                Some(0) => Some(false),
                Some(1) => Some(true),
                _ => None,
            },
            Value::String(text) => truth(text),
            _ => None,
        };
        match flag {
            Some(flag) => Ok(Some(flag)),
            None => Err(ApiError::field(name, shown(&value), "Value should be true or false.")),
        }
    }

    /// One of some words.
    pub fn choice<T>(
        &mut self,
        name: &str,
        words: &[&str],
        parse: impl Fn(&str) -> Option<T>,
    ) -> Outcome<Option<T>> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let found = value.as_str().filter(|word| words.contains(word)).and_then(parse);
        match found {
            Some(found) => Ok(Some(found)),
            None => {
                let why = format!("Value should be one of: {}", words.join(", "));
                Err(ApiError::field(name, shown(&value), why))
            }
        }
    }

    pub fn uuid(&mut self, name: &str) -> Outcome<Option<uuid::Uuid>> {
        let Some(value) = self.take(name) else { return Ok(None) };
        match value.as_str().and_then(|text| uuid::Uuid::parse_str(text).ok()) {
            Some(id) => Ok(Some(id)),
            None => Err(ApiError::field(name, shown(&value), "Value should be UUID format")),
        }
    }

    /// A map of text to text; numbers and booleans become what Python would print.
    pub fn labels(&mut self, name: &str) -> Outcome<Option<Labels>> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let Value::Object(map) = &value else {
            let why = "Value should be a map of names to texts.";
            return Err(ApiError::field(name, shown(&value), why));
        };
        let pairs = map.iter().map(|(key, one)| match scalar(one) {
            _ if key.is_empty() || key.contains(char::is_control) => {
                let why = "A name should not be empty and have no control characters.";
                Err(ApiError::field(name, shown(&value), why))
            }
            Some(text) => Ok((key.clone(), text)),
            None => {
                let why = format!("The value of {key} should be text, a number, true or false.");
                Err(ApiError::field(name, shown(&value), why))
            }
        });
        let labels = pairs.collect::<Outcome<Labels>>()?;
        check_size(name, &labels)?;
        Ok(Some(labels))
    }
}

/// Whether so much can be kept.
pub fn check_size(name: &str, labels: &Labels) -> Outcome<()> {
    labels.check_size().map_err(|why| {
        let (count, bytes) = labels.size();
        ApiError::field(name, format!("{count} entries, {bytes} bytes"), why)
    })
}

pub fn mandatory(name: &str) -> ApiError {
    ApiError::field(name, "None", "Mandatory field missing.")
}

/// What a word says, if it says yes or no.
pub fn truth(word: &str) -> Option<bool> {
    match word.trim().to_ascii_lowercase().as_str() {
        "1" | "t" | "true" | "on" | "y" | "yes" => Some(true),
        "0" | "f" | "false" | "off" | "n" | "no" => Some(false),
        _ => None,
    }
}

/// Text, or what prints as text without losing anything.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(true) => Some("True".to_owned()),
        Value::Bool(false) => Some("False".to_owned()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[expect(clippy::cast_possible_truncation, reason = "there is nothing to cut off")]
fn undivided(number: f64) -> Option<i64> {
    (number.abs() < 9e15 && number.fract() == 0.0).then_some(number as i64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn fields(value: Value) -> Fields {
        Fields::new("cluster", value, &["a"], &["links"]).unwrap()
    }

    fn sentence<T: std::fmt::Debug>(outcome: Outcome<T>) -> String {
        outcome.unwrap_err().detail().to_owned()
    }

    #[test]
    fn numbers_are_lenient_and_bounded() {
        for (value, expected) in
            [(json!(3), 3), (json!("3"), 3), (json!(" 3 "), 3), (json!(3.0), 3), (json!(0.0), 0)]
        {
            assert_eq!(fields(json!({ "a": value })).whole("a", 0..=9).unwrap(), Some(expected));
        }
        assert_eq!(fields(json!({ "a": null })).whole("a", 1..=9).unwrap(), None);
        assert_eq!(fields(json!({})).whole("a", 1..=9).unwrap(), None);
        let refused = |value: Value| sentence(fields(json!({ "a": value })).whole("a", 1..=9));
        assert_eq!(
            refused(json!(0)),
            "Invalid input for field/attribute a. Value: '0'. Value should be greater or equal to 1"
        );
        assert!(refused(json!(10)).ends_with("lesser or equal to 9"));
        assert!(refused(json!(1e300)).ends_with("whole number."));
        assert!(refused(json!(true)).ends_with("whole number."));
        for divided in [json!(1.5), json!("1.5"), json!(0.9), json!(-1.5), json!(9.000_000_1)] {
            assert_eq!(
                refused(divided.clone()),
                format!(
                    "Invalid input for field/attribute a. Value: '{}'. Value should be a whole \
                     number.",
                    shown(&divided)
                )
            );
        }
        assert!(refused(json!("many")).contains("Value: 'many'"));
        assert!(refused(json!(u64::MAX)).contains(&u64::MAX.to_string()));
    }

    #[test]
    fn flags_are_words_too() {
        for (word, flag) in [("YES", true), ("t", true), ("Off", false), ("0", false)] {
            assert_eq!(fields(json!({ "a": word })).flag("a").unwrap(), Some(flag));
        }
        for odd in [json!("maybe"), json!(2), json!([])] {
            assert!(fields(json!({ "a": odd })).flag("a").is_err());
        }
    }

    #[test]
    fn labels_become_text_as_python_prints_it() {
        let given = json!({ "a": { "n": 1, "b": true, "f": 1.5, "s": "x" } });
        let labels = fields(given).labels("a").unwrap().unwrap();
        let expected = [("n", "1"), ("b", "True"), ("f", "1.5"), ("s", "x")];
        assert_eq!(labels, Labels::from_iter(expected));
        for odd in [json!({ "x": null }), json!({ "x": {} }), json!("x"), json!(["x"])] {
            assert!(fields(json!({ "a": odd })).labels("a").is_err());
        }
    }

    #[test]
    fn maps_have_limits() {
        let refused = |value: Value| sentence(fields(json!({ "a": value })).labels("a"));
        let many: Map<String, Value> = (0..600).map(|n| (n.to_string(), json!("x"))).collect();
        assert_eq!(
            refused(Value::Object(many)),
            "Invalid input for field/attribute a. Value: '600 entries, 2290 bytes'. 600 entries \
             are given, and at most 512 are kept."
        );
        let long = refused(json!({ "k": "x".repeat(600_000) }));
        assert!(long.contains("600001 bytes together, and at most 65536 are kept"), "{long}");
        assert!(fields(json!({ "a": { "k": "x".repeat(60_000) } })).labels("a").is_ok());
    }

    #[test]
    fn texts_have_limits() {
        let refused = |value: Value| sentence(fields(json!({ "a": value })).text("a", 1..=3));
        assert!(refused(json!("")).ends_with("minimum character requirement of 1"));
        assert!(refused(json!("abcd")).ends_with("maximum character requirement of 3"));
        assert!(refused(json!(5)).ends_with("Value should be string"));
        assert!(refused(json!("a\nb")).contains("control"));
        assert_eq!(fields(json!({ "a": "äöü" })).text("a", 1..=3).unwrap().unwrap(), "äöü");
    }

    #[test]
    fn attributes_must_be_known_and_writable() {
        let refused = |value| sentence(Fields::new("cluster", value, &["a"], &["links"]));
        assert_eq!(
            refused(json!({ "colour": 1 })),
            "Unknown attribute for argument cluster: colour"
        );
        assert_eq!(
            refused(json!({ "links": [] })),
            "Invalid input for field/attribute links. Value: '[]'. Cannot set read only field."
        );
        assert!(refused(json!([])).contains("should be an object"));
        assert!(Fields::new("cluster", json!({ "links": null }), &[], &["links"]).is_ok());
    }

    #[test]
    fn bodies_are_json_or_refused() {
        assert_eq!(sentence(json(b"", "cluster")), "Missing argument: \"cluster\"");
        let deep = "[".repeat(100_000);
        for bad in [&b"{"[..], b"\xff", b"{\"name\": \"\\ud800\"}", deep.as_bytes()] {
            assert_eq!(sentence(json(bad, "x")), "Request is not in valid JSON format");
        }
        assert_eq!(
            sentence(json(br#"{"labels": {"kube_tag": "v1", "kube_tag": "v2"}}"#, "cluster")),
            "Invalid input for field/attribute labels. Value: 'kube_tag'. The name stands there \
             twice. Give it once, with the value meant."
        );
        let twice = sentence(json(br#"{"name": "a", "name": "b"}"#, "cluster"));
        assert!(twice.starts_with("Invalid input for field/attribute cluster. Value: 'name'."));
    }

    proptest! {
        #[test]
        fn no_body_panics(text in "[\\[\\]{}:,\"a0-9.e\\\\ -]{0,60}") {
            if let Ok(value) = json(text.as_bytes(), "cluster")
                && let Ok(fields) = Fields::new("cluster", value, &["a", "", "0"], &[])
            {
                let _ = fields.clone().whole("a", 1..=9);
                let _ = fields.clone().flag("a");
                let _ = fields.clone().text("a", 1..=9);
                let _ = fields.clone().labels("a");
            }
        }
    }
}
