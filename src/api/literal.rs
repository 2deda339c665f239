//! Maps written as text: clients of JSON Patch send Python's notation, or JSON, as a string.

use serde_json::{Map, Number, Value};

/// Deeper than any client writes.
const DEEPEST: u32 = 16;

/// Reads `{'a': 'b'}` as well as `{"a": "b"}`; nothing if it is neither.
pub fn parse(text: &str) -> Option<Value> {
    if let Ok(value) = serde_json::from_str(text) {
        return Some(value);
    }
    let mut reader = Reader { rest: text.trim() };
    let value = reader.value(DEEPEST).filter(|_| reader.rest.trim().is_empty());
    value.or_else(|| unescaped(text))
}

/// As Terraform writes labels: `{'a':'b','c':'it's'}`, with nothing escaped.
fn unescaped(text: &str) -> Option<Value> {
    let inside = text.trim().strip_prefix("{'")?.strip_suffix("'}")?;
    let pair = |text: &str| text.split_once("':'").map(|(key, value)| (key.into(), value.into()));
    inside.split("','").map(pair).collect::<Option<Map<_, _>>>().map(Value::Object)
}

struct Reader<'t> {
    rest: &'t str,
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
            map.insert(key, self.value(depth)?);
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
            ("{'a':'it's','b c':'x, y: z'}", json!({ "a": "it's", "b c": "x, y: z" })),
            ("{}", json!({})),
            ("{'x': {'y': [1.5, None]}}", json!({ "x": { "y": [1.5, null] } })),
        ];
        for (text, expected) in table {
            assert_eq!(parse(text), Some(expected), "{text}");
        }
        for bad in ["", "{'a'}", "{'a': }", "{'a': 'b'", "{a: 'b'}", "{'a': 'b'} x", "{1: 2}"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        assert_eq!(parse(&"[".repeat(100_000)), None);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[\\[\\]{}:,'\"\\\\a0-9.eé -]{0,60}") {
            let _ = parse(&text);
        }
    }
}
