//! Maps written as text: clients of JSON Patch send Python's notation, or JSON, as a string.

use serde_json::{Map, Number, Value};

use super::unrepeated::{self, Unread};

/// Deeper than any client writes.
const DEEPEST: u32 = 16;

/// Reads `{'a': 'b'}` as well as `{"a": "b"}`; what is neither, or names a thing twice, is not read.
pub fn parse(text: &str) -> Result<Value, Unread> {
    match unrepeated::read(text.as_bytes()) {
        Err(Unread::Malformed) => {}
        read => return read,
    }
    let mut reader = Reader { rest: text.trim(), repeated: None };
    let value = reader.value(DEEPEST).filter(|_| reader.rest.trim().is_empty());
    match (value, reader.repeated) {
        (Some(_), Some(name)) => Err(Unread::Repeated { within: None, name }),
        (Some(value), None) => Ok(value),
        (None, _) => unescaped(text).ok_or(Unread::Malformed),
    }
}

/// One label as Terraform writes it: `{'c':'it's'}`.
///
/// Its provider puts names and values between quotes and escapes nothing. Where it sends several
/// labels, an apostrophe among them may as well be a quote that is missing elsewhere, and any
/// reading is a guess: upstream refuses all of these, and so do we. What is left is what can be read
/// in one way only: one label, with nothing that begins another, and one apostrophe in its value,
/// between two letters or digits. Two could be the quotes of a text whose separators are missing.
fn unescaped(text: &str) -> Option<Value> {
    let inside = text.trim().strip_prefix("{'")?.strip_suffix("'}")?;
    let (name, value) = inside.split_once("':'")?;
    let (before, after) = value.split_once('\'')?;
    let is_inner =
        before.ends_with(char::is_alphanumeric) && after.starts_with(char::is_alphanumeric);
    let is_plain = |text: &str| !text.contains(['\'', '"', '\\', ',', ':', '{', '}']);
    (is_inner && [name, before, after].into_iter().all(is_plain))
        .then(|| Value::from(Map::from_iter([(name.to_owned(), Value::from(value))])))
}

struct Reader<'t> {
    rest: &'t str,
    /// The first name that stood in its map already.
    repeated: Option<String>,
}

impl Reader<'_> {
    fn value(&mut self, depth: u32) -> Option<Value> {
        let depth = depth.checked_sub(1)?;
        self.rest = self.rest.trim_start();
        match self.rest.chars().next()? {
            '{' => self.map(depth),
            '[' => self.list(depth),
            '\'' | '"' => self.text().map(Value::String),
            _ => self.word(),
        }
    }

    fn eat(&mut self, wanted: char) -> bool {
        match self.rest.trim_start().strip_prefix(wanted) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn map(&mut self, depth: u32) -> Option<Value> {
        self.eat('{');
        let mut map = Map::new();
        while !self.eat('}') {
            let Value::String(key) = self.value(depth)? else { return None };
            if !self.eat(':') {
                return None;
            }
            let value = self.value(depth)?;
            if map.contains_key(&key) {
                self.repeated.get_or_insert_with(|| key.clone());
            }
            map.insert(key, value);
            if !self.eat(',') {
                return self.eat('}').then_some(Value::Object(map));
            }
        }
        Some(Value::Object(map))
    }

    fn list(&mut self, depth: u32) -> Option<Value> {
        self.eat('[');
        let mut list = Vec::new();
        while !self.eat(']') {
            list.push(self.value(depth)?);
            if !self.eat(',') {
                return self.eat(']').then_some(Value::Array(list));
            }
        }
        Some(Value::Array(list))
    }

    fn text(&mut self) -> Option<String> {
        let mut characters = self.rest.char_indices();
        let (_, quote) = characters.next()?;
        let mut text = String::new();
        while let Some((at, character)) = characters.next() {
            match character {
                '\\' => match characters.next()?.1 {
                    'n' => text.push('\n'),
                    't' => text.push('\t'),
                    'r' => text.push('\r'),
                    plain @ ('\'' | '"' | '\\') => text.push(plain),
                    // Characters by number or name, control characters, a line that goes on.
                    'x' | 'u' | 'U' | 'N' | '0'..='7' | 'a' | 'b' | 'f' | 'v' | '\n' => {
                        return None;
                    }
                    other => text.extend(['\\', other]),
                },
                _ if character == quote => {
                    self.rest = &self.rest[at + character.len_utf8()..];
                    return Some(text);
                }
                _ => text.push(character),
            }
        }
        None
    }

    fn word(&mut self) -> Option<Value> {
        let end = self
            .rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || "+-._".contains(c)))
            .unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        match word {
            "True" | "true" => Some(Value::Bool(true)),
            "False" | "false" => Some(Value::Bool(false)),
            "None" | "null" => Some(Value::Null),
            _ => match word.parse::<i64>() {
                Ok(whole) => Some(Value::from(whole)),
                Err(_) => Number::from_f64(word.parse().ok()?).map(Value::Number),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn both_notations_are_read() {
        let table = [
            (r#"{"a": "b"}"#, json!({ "a": "b" })),
            ("{'a': 'b', 'c': 1, 'd': True}", json!({ "a": "b", "c": 1, "d": true })),
            ("{'a':'b','c':'it\\'s'}", json!({ "a": "b", "c": "it's" })),
            ("{'a': \"it's\",}", json!({ "a": "it's" })),
            ("{'a':'it\\'s','b c':'x, y: z'}", json!({ "a": "it's", "b c": "x, y: z" })),
            ("{'b c':'as it's'}", json!({ "b c": "as it's" })),
            ("{}", json!({})),
            ("{'x': {'y': [1.5, None]}}", json!({ "x": { "y": [1.5, null] } })),
        ];
        for (text, expected) in table {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
        for bad in ["", "{'a'}", "{'a': }", "{'a': 'b'", "{a: 'b'}", "{'a': 'b'} x", "{1: 2}"] {
            assert_eq!(parse(bad), Err(Unread::Malformed), "{bad}");
        }
        assert_eq!(parse(&"[".repeat(100_000)), Err(Unread::Malformed));
    }

    /// Regression: the last of two values counted, and nobody was told of the other.
    #[test]
    fn a_name_is_given_once_in_every_notation() {
        for text in [
            r#"{"a": "1", "b": "2", "a": "1"}"#,
            "{'a': '1', 'b': '2', 'a': '3'}",
            "{'x': {'a': 1, 'a': 1}}",
            "{'a':\"it's\",'a':'x'}",
        ] {
            match parse(text) {
                Err(Unread::Repeated { name, .. }) => assert_eq!(name, "a", "{text}"),
                other => panic!("{text}: {other:?}"),
            }
        }
        // What is not understood whole is not known to name anything twice.
        assert_eq!(parse("{'a': 1, 'a': 2"), Err(Unread::Malformed));
        assert_eq!(parse("{'a': {'a': 1}}"), Ok(json!({"a": {"a": 1}})));
    }

    /// What may mean several things, or what is not understood whole, is not read.
    #[test]
    fn broken_quoting_is_never_guessed() {
        for bad in [
            "{'a':'b', 'q':'it's', 'c':'d'}",
            "{'a': 'b', 'q': 'it's'}",
            "{'q':'it's', 'c':'d'}",
            "{'a':'b','q':'it' s','c':'d'}",
            "{'a':'the lads'','c':'d'}",
            "{'a':''tis','c':'d'}",
            "{'a':'b':'c'}",
            "{'a':'x'y\\'','c':'d'}",
            // Without blanks after the commas no more than with them.
            "{'q':'it's','c':'d'}",
            "{'q':'a','b':'it's'}",
            "{'it's':'b'}",
            "{'a':'b'c'd'}",
            "{'a':'x y','b':'p'q'}",
            "{'a':'it's','b c':'y'all's'}",
            "{'a':'it's','a':'x'}",
            "{'a':'b'c':'d'}",
            "{'a':'b':'c's'}",
            "{'a':'b's,c':'d'}",
            "{'a':'b,c'd'}",
            "{'a':'b'c:d'}",
            "{'a':'the lads' z'}",
            "{'a':'the ' z'}",
            "{'a':''s'}",
            "{'a':'s''}",
            "{'a':'it's \"x'}",
            "{'a':'it's \\n'}",
            "{ 'a':'it's'}",
            "{'a': 'it's'}",
            "{\"a\":\"\"b\"}",
            r"{'a': '\x41'}",
            r"{'a': '\u0041'}",
            r"{'a': '\101'}",
            r"{'a': '\N{BULLET}'}",
        ] {
            assert_eq!(parse(bad), Err(Unread::Malformed), "{bad}");
        }
        // One way to read it: no other label, and no other text, can begin there.
        assert_eq!(parse("{'a':'it's'}"), Ok(json!({ "a": "it's" })));
        assert_eq!(parse(r"{'a': 'C:\d'}"), Ok(json!({ "a": r"C:\d" })));
    }

    proptest! {
        /// Labels with apostrophes anywhere are read as they were meant, or not at all.
        #[test]
        fn what_was_written_without_escapes_is_not_misread(
            labels in proptest::collection::btree_map("[a-c':, ]{1,6}", "[a-c':, {}]{0,8}", 1..4),
        ) {
            let pairs: Vec<String> = labels.iter().map(|(k, v)| format!("'{k}':'{v}'")).collect();
            if let Some(read) = unescaped(&format!("{{{}}}", pairs.join(","))) {
                prop_assert_eq!(read, json!(labels));
            }
        }

        #[test]
        fn no_text_panics(text in "[\\[\\]{}:,'\"\\\\a0-9.eé -]{0,60}") {
            let _ = parse(&text);
        }
    }
}
