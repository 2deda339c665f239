//! Small changes that keep most of an input's shape.

use serde_json::{Map, Value, json};

use crate::corpus::Corpus;
use crate::dice::Dice;

/// Texts that have broken somebody before.
const TEXTS: [&str; 30] = [
    "",
    " ",
    "0",
    "-1",
    "1.5",
    "1e9",
    "99999999999999999999",
    "NaN",
    "true",
    "None",
    "null",
    "\u{0}",
    "a\u{0}b",
    "\n",
    "\r\nX: y",
    "é",
    "\u{1f600}",
    "\u{202e}x",
    "\u{feff}",
    "'",
    "\"",
    "`$(reboot)`",
    "{{ 7 * 7 }}",
    "{% include '/etc/passwd' %}",
    "%(user_id)s",
    "../../../etc/passwd",
    "a: \"b\" #{{",
    "00000000-0000-4000-8000-000000000000",
    "default-worker",
    "{'a': {'b': ['c', None, True, 1.5]}}",
];

/// A value of any kind, more likely one that means something.
pub fn value(dice: &mut Dice, corpus: &Corpus) -> Value {
    match dice.below(14) {
        0 => Value::Null,
        1 => Value::Bool(dice.one_in(2)),
        2 => json!(*dice.pick(&[0, 1, -1, 2, 3, 255, 65_535, 100_000, i64::MAX, i64::MIN])),
        3 => json!(u64::MAX),
        4 => json!(*dice.pick(&[0.0, -0.0, 1.5, 1e308, -1e-308, 4_294_967_296.0])),
        5 => json!([]),
        6 => json!({}),
        7 => Value::String(dice.pick(&["a", "é", "\u{0}", "x.y/"]).repeat(dice.below(70_000))),
        8 => nested(dice.below(160)),
        9 => Value::Array((0..dice.below(3000)).map(Value::from).collect()),
        10 | 11 => Value::from(*dice.pick(&TEXTS)),
        _ => dice.pick(&corpus.values).clone(),
    }
}

fn nested(depth: usize) -> Value {
    (0..depth).fold(json!("x"), |inner, at| match at % 2 {
        0 => Value::Array(vec![inner]),
        _ => json!({ "a": inner }),
    })
}

/// Up to four changes anywhere in the value.
pub fn json(dice: &mut Dice, corpus: &Corpus, value: &mut Value) {
    for _ in 0..=dice.below(4) {
        let nodes = count(value);
        let at = dice.below(nodes);
        let mut left = at;
        change(dice, corpus, value, &mut left);
    }
}

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Object(map) => map.values().map(count).sum(),
        Value::Array(items) => items.iter().map(count).sum::<usize>(),
        _ => 0,
    }
}

/// Walks to the node that is `left` steps away and changes it.
fn change(dice: &mut Dice, corpus: &Corpus, value: &mut Value, left: &mut usize) -> bool {
    if *left == 0 {
        one(dice, corpus, value);
        return true;
    }
    *left -= 1;
    match value {
        Value::Object(map) => map.values_mut().any(|inner| change(dice, corpus, inner, left)),
        Value::Array(items) => items.iter_mut().any(|inner| change(dice, corpus, inner, left)),
        _ => false,
    }
}

fn one(dice: &mut Dice, corpus: &Corpus, node: &mut Value) {
    match (dice.below(6), &mut *node) {
        (0 | 1, Value::Object(map)) => {
            let key = dice.pick(&corpus.keys).clone();
            map.insert(key, value(dice, corpus));
        }
        (2, Value::Object(map)) if !map.is_empty() => {
            let key = map.keys().nth(dice.below(map.len())).unwrap().clone();
            map.remove(&key);
        }
        (3, Value::Object(map)) if !map.is_empty() => {
            let key = map.keys().nth(dice.below(map.len())).unwrap().clone();
            let moved = map.remove(&key).unwrap();
            let mut renamed = key;
            text(dice, &mut renamed);
            map.insert(renamed, moved);
        }
        (0 | 1, Value::Array(items)) => items.push(value(dice, corpus)),
        (2, Value::Array(items)) if !items.is_empty() => {
            let again = dice.pick(items).clone();
            items.push(again);
        }
        (3, Value::Array(items)) if !items.is_empty() => {
            drop(items.remove(dice.below(items.len())))
        }
        (0..=2, Value::String(plain)) => text(dice, plain),
        (4, Value::Null) => *node = Value::Object(Map::new()),
        (4, _) => *node = Value::Array(vec![node.take()]),
        _ => *node = value(dice, corpus),
    }
}

/// One change of a text.
pub fn text(dice: &mut Dice, text: &mut String) {
    let characters = text.chars().count();
    let at = text.char_indices().nth(dice.below(characters)).map_or(0, |(at, _)| at);
    let odd = *dice.pick(&TEXTS);
    match dice.below(6) {
        0 => text.truncate(at),
        1 => text.insert_str(at, odd),
        2 => text.push_str(odd),
        3 if characters > 0 => drop(text.remove(at)),
        4 => *text = text.repeat(1 + dice.below(40)),
        _ => {
            let odd = char::from_u32(dice.below(0x300) as u32).unwrap_or('\u{fffd}');
            text.insert(at, odd);
        }
    }
}

/// Changes below the level of text.
pub fn bytes(dice: &mut Dice, bytes: &mut Vec<u8>) {
    for _ in 0..=dice.below(4) {
        if bytes.is_empty() {
            return;
        }
        let at = dice.below(bytes.len());
        match dice.below(5) {
            0 => bytes[at] ^= 1 << dice.below(8),
            1 => bytes[at] = dice.roll() as u8,
            2 => bytes.truncate(at),
            3 => bytes.insert(at, dice.roll() as u8),
            _ => {
                let end = (at + dice.below(64)).min(bytes.len());
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
        }
    }
}
