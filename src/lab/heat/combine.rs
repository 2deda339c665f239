//! Functions that only combine values: texts, lists and maps, with nothing looked up.

use aws_lc_rs::digest;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value, json};

use super::text::{py_json, py_repr, py_str, py_type, truthy};

/// Applies a function to resolved arguments.
pub fn apply(name: &str, args: Value) -> Result<Value, String> {
    match name {
        "str_replace" | "str_replace_strict" | "str_replace_vstrict" => replace(name, &args),
        "list_join" => join(&args),
        "list_concat" => concat(name, &args, false),
        "list_concat_unique" => concat(name, &args, true),
        "map_merge" => merge(&args),
        "map_replace" => map_replace(&args),
        "repeat" => repeat(&args),
        "digest" => hash(&args),
        "str_split" => split(&args),
        "filter" => filter(&args),
        "contains" => contains(&args),
        "make_url" => make_url(&args),
        other => Err(format!("The function {other} is not available in this lab.")),
    }
}

/// Python's `==`: 1 equals 1.0 and True, but not "1".
pub fn equal(a: &Value, b: &Value) -> bool {
    let number = |v: &Value| match v {
        Value::Bool(flag) => Some(f64::from(u8::from(*flag))),
        other => other.as_f64(),
    };
    match (number(a), number(b)) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

fn replace(name: &str, args: &Value) -> Result<Value, String> {
    let Value::String(template) = &args["template"] else {
        return Err(format!("\"{name}\" template must be a string"));
    };
    let Value::Object(params) = &args["params"] else {
        return Err(format!("\"{name}\" params must be a map"));
    };
    let mut keys: Vec<&String> = params.keys().collect();
    // Longer placeholders first; what was put in is never looked at again.
    keys.sort_by(|a, b| b.chars().count().cmp(&a.chars().count()).then(a.cmp(b)));
    let mut values = Vec::with_capacity(keys.len());
    for key in &keys {
        let value = &params[*key];
        let text = match value {
            Value::Null => String::new(),
            Value::Array(_) | Value::Object(_) => py_json(value),
            other => py_str(other),
        };
        let empty = text.is_empty() || (!truthy(value) && (value.is_array() || value.is_object()));
        if empty && name == "str_replace_vstrict" {
            return Err(format!(
                "{name} has an undefined or empty value for param {key}, must be a defined \
                 non-empty value"
            ));
        }
        values.push(text);
    }
    let mut used = vec![false; keys.len()];
    let out = substitute(template, &keys, &values, &mut used);
    let unused: Vec<&str> =
        keys.iter().zip(&used).filter(|(_, used)| !**used).map(|(k, _)| k.as_str()).collect();
    if name != "str_replace" && !unused.is_empty() {
        return Err(format!(
            "The following params were not found in the template: {}",
            unused.join(",")
        ));
    }
    Ok(Value::String(out))
}

fn substitute(text: &str, keys: &[&String], values: &[String], used: &mut [bool]) -> String {
    let ([key, keys @ ..], [value, values @ ..], [flag, used @ ..]) = (keys, values, used) else {
        return text.to_owned();
    };
    if key.is_empty() {
        return substitute(text, keys, values, used);
    }
    let parts: Vec<String> =
        text.split(key.as_str()).map(|part| substitute(part, keys, values, used)).collect();
    *flag |= parts.len() > 1;
    parts.join(value)
}

fn join(args: &Value) -> Result<Value, String> {
    let list = args.as_array().map(Vec::as_slice).unwrap_or_default();
    let Some(Value::String(delimiter)) = list.first() else {
        return Err("\"list_join\" delimiter must be a string".to_owned());
    };
    let mut texts = Vec::new();
    for more in &list[1..] {
        match more {
            empty if !truthy(empty) => {}
            Value::Array(items) => {
                for item in items {
                    texts.push(match item {
                        Value::Null => String::new(),
                        Value::String(text) => text.clone(),
                        Value::Array(_) | Value::Object(_) => py_json(item),
                        other => {
                            return Err(format!(
                                "Items to join must be string, map or list not {}",
                                py_repr(other)
                            ));
                        }
                    });
                }
            }
            _ => return Err("\"list_join\" must operate on a list".to_owned()),
        }
    }
    Ok(Value::String(texts.join(delimiter)))
}

fn concat(name: &str, args: &Value, unique: bool) -> Result<Value, String> {
    let Value::Array(lists) = args else {
        return Err(format!(
            "Incorrect arguments to \"{name}\" should be: \"{name}\" : [ [ <value 1>, <value 2> ], \
             [ <value 3>, <value 4> ] ]"
        ));
    };
    let mut out: Vec<Value> = Vec::new();
    for list in lists {
        match list {
            Value::Null => {}
            Value::Array(items) => {
                for item in items {
                    if !unique || !out.contains(item) {
                        out.push(item.clone());
                    }
                }
            }
            other => {
                return Err(format!(
                    "Incorrect arguments: Items to concat must be lists. {} contains an item that \
                     is not a list: {}",
                    py_json(args),
                    py_json(other)
                ));
            }
        }
    }
    Ok(Value::Array(out))
}

fn merge(args: &Value) -> Result<Value, String> {
    let Value::Array(maps) = args else {
        return Err(
            "Incorrect arguments to \"map_merge\" should be: \"map_merge\" : [ { \"key1\": \
                    \"val1\" }, { \"key2\": \"val2\" } ]"
                .to_owned(),
        );
    };
    let mut out = Map::new();
    for map in maps {
        match map {
            Value::Null => {}
            Value::Object(map) => out.extend(map.clone()),
            other => {
                return Err(format!(
                    "Incorrect arguments: Items to merge must be maps. {} is type <class '{}'> \
                     instead of a dict",
                    py_repr(other),
                    py_type(other)
                ));
            }
        }
    }
    Ok(Value::Object(out))
}

fn map_replace(args: &Value) -> Result<Value, String> {
    let wrong = "Incorrect arguments to \"map_replace\" should be: \"map_replace\" : [ { \"key1\": \
                 \"val1\" }, {\"keys\": {\"key1\": \"key2\"}, \"values\": {\"val1\": \"val2\"}}]";
    let Some([Value::Object(map), Value::Object(how)]) = args.as_array().map(Vec::as_slice) else {
        return Err(wrong.to_owned());
    };
    if how.keys().any(|k| k != "keys" && k != "values") {
        return Err(wrong.to_owned());
    }
    let mut out = Map::new();
    for (key, value) in map {
        let renamed = how.get("keys").and_then(|k| k.get(key)).map_or_else(|| key.clone(), py_str);
        if renamed != *key && map.contains_key(&renamed) {
            return Err(format!("key replacement {renamed} collides with a key in the input map"));
        }
        if out.contains_key(&renamed) {
            return Err(format!("key replacement {renamed} collides with a key in the output map"));
        }
        let replaced = value.as_str().and_then(|text| how.get("values")?.get(text));
        out.insert(renamed, replaced.unwrap_or(value).clone());
    }
    Ok(Value::Object(out))
}

/// The most rows `repeat` makes here: Heat has no limit, but a lab wants its memory back.
const ROWS: usize = 100_000;

fn repeat(args: &Value) -> Result<Value, String> {
    let Value::Object(each) = &args["for_each"] else {
        return Err("The \"for_each\" argument to \"repeat\" must contain a map".to_owned());
    };
    let nested = match args.get("permutations") {
        None => true,
        Some(Value::Bool(flag)) => *flag,
        Some(_) => {
            return Err("\"permutations\" should be boolean type for repeat function.".to_owned());
        }
    };
    let mut lists = Vec::new();
    for list in each.values() {
        lists.push(match list {
            Value::Null => Vec::new(),
            Value::Array(items) => items.clone(),
            Value::Object(map) if nested => map.keys().map(|k| json!(k)).collect(),
            _ => {
                return Err("The values of the \"for_each\" argument to \"repeat\" must be lists \
                            or maps"
                    .to_owned());
            }
        });
    }
    let keys: Vec<&String> = each.keys().collect();
    let rows: Vec<Vec<Value>> = if nested {
        let total = lists.iter().try_fold(1usize, |n, l| n.checked_mul(l.len()));
        if total.is_none_or(|n| n > ROWS) {
            return Err(format!("repeat would make more than {ROWS} items"));
        }
        lists.iter().fold(vec![Vec::new()], |rows, list| {
            let longer = |row: &Vec<Value>, item: &Value| {
                [row.as_slice(), std::slice::from_ref(item)].concat()
            };
            rows.iter().flat_map(|row| list.iter().map(move |item| longer(row, item))).collect()
        })
    } else {
        let length = lists.first().map_or(0, Vec::len);
        if lists.iter().any(|l| l.len() != length) {
            return Err("For repeat, the length of for_each values should be equal if no nested \
                        loop."
                .to_owned());
        }
        (0..length).map(|i| lists.iter().map(|l| l[i].clone()).collect()).collect()
    };
    Ok(rows.iter().map(|row| put(&keys, row, &args["template"])).collect::<Vec<_>>().into())
}

fn put(keys: &[&String], row: &[Value], template: &Value) -> Value {
    let text = |text: &str| {
        keys.iter().zip(row).fold(text.to_owned(), |at, (key, value)| {
            if key.is_empty() { at } else { at.replace(key.as_str(), &py_str(value)) }
        })
    };
    match template {
        Value::String(t) => Value::String(text(t)),
        Value::Array(items) => items.iter().map(|v| put(keys, row, v)).collect::<Vec<_>>().into(),
        Value::Object(map) => {
            map.iter().map(|(k, v)| (text(k), put(keys, row, v))).collect::<Map<_, _>>().into()
        }
        other => other.clone(),
    }
}

fn hash(args: &Value) -> Result<Value, String> {
    let Some([Value::String(algorithm), Value::String(text)]) = args.as_array().map(Vec::as_slice)
    else {
        return Err("Argument to function \"digest\" must be a list of strings".to_owned());
    };
    let algorithm = match algorithm.to_lowercase().as_str() {
        "sha1" => &digest::SHA1_FOR_LEGACY_USE_ONLY,
        "sha224" => &digest::SHA224,
        "sha256" => &digest::SHA256,
        "sha384" => &digest::SHA384,
        "sha512" => &digest::SHA512,
        _ => {
            return Err(
                "Algorithm must be one of {'sha1', 'sha224', 'sha256', 'sha384', 'sha512'}"
                    .to_owned(),
            );
        }
    };
    let hash = digest::digest(algorithm, text.as_bytes());
    Ok(Value::String(hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()))
}

fn split(args: &Value) -> Result<Value, String> {
    let example = "should be: \"str_split\" : [ \",\", \"apples,pears\", <index>]";
    let list = args.as_array().map(Vec::as_slice).unwrap_or_default();
    let (Some(Value::String(delimiter)), Some(text)) = (list.first(), list.get(1)) else {
        return Err(format!("Incorrect arguments to \"str_split\" {example}"));
    };
    let text = match text {
        Value::Null => return Ok(Value::Null),
        Value::String(text) if !delimiter.is_empty() => text,
        _ => return Err(format!("Incorrect arguments to \"str_split\" {example}")),
    };
    let parts: Vec<&str> = text.split(delimiter.as_str()).collect();
    let Some(index) = list.get(2) else { return Ok(parts.into()) };
    let Ok(index) = py_str(index).parse::<usize>() else {
        return Err(format!("Incorrect index to \"str_split\" {example}"));
    };
    parts.get(index).map(|part| json!(part)).ok_or_else(|| {
        let last = parts.len() - 1;
        format!("Incorrect index to \"str_split\" should be between 0 and {last}")
    })
}

fn filter(args: &Value) -> Result<Value, String> {
    match (&args[0], &args[1]) {
        (_, list) if !truthy(list) => Ok(list.clone()),
        (values, list @ Value::Array(_)) if !truthy(values) => Ok(list.clone()),
        (Value::Array(values), Value::Array(list)) => {
            Ok(list.iter().filter(|v| !values.contains(v)).cloned().collect::<Vec<_>>().into())
        }
        (Value::Array(_), _) => Err("\"filter\" only works with lists".to_owned()),
        _ => Err("\"filter\" filters a list of values".to_owned()),
    }
}

fn contains(args: &Value) -> Result<Value, String> {
    match (&args[0], &args[1]) {
        (value, Value::Array(list)) => Ok(Value::Bool(list.iter().any(|v| equal(v, value)))),
        (Value::String(part), Value::String(text)) => Ok(Value::Bool(text.contains(part.as_str()))),
        _ => Err("Second argument to \"contains\" should be a sequence.".to_owned()),
    }
}

const SAFE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
const SAFE_PATH: &AsciiSet = &SAFE.remove(b'/');
const SAFE_HOST: &AsciiSet = &SAFE.remove(b':');

fn make_url(args: &Value) -> Result<Value, String> {
    let text = |key: &str| args.get(key).filter(|v| !v.is_null()).map(py_str).unwrap_or_default();
    let quote = |text: &str, set| utf8_percent_encode(text, set).to_string();
    let (user, password) = (text("username"), text("password"));
    let mut out = String::new();
    if !text("scheme").is_empty() {
        out.push_str(&format!("{}:", text("scheme")));
    }
    out.push_str("//");
    if !user.is_empty() || !password.is_empty() {
        out.push_str(&quote(&user, SAFE));
        if !password.is_empty() {
            out.push_str(&format!(":{}", quote(&password, SAFE)));
        }
        out.push('@');
    }
    let host = text("host");
    let host = quote(host.trim_start_matches('[').trim_end_matches(']'), SAFE_HOST);
    out.push_str(&if host.contains(':') { format!("[{host}]") } else { host });
    if !text("port").is_empty() {
        match text("port").parse::<u16>() {
            Ok(port) if port > 0 => out.push_str(&format!(":{port}")),
            _ => {
                return Err(format!("Invalid URL port {}, must be in range 1-65535", text("port")));
            }
        }
    }
    let path = quote(&text("path"), SAFE_PATH);
    if !path.is_empty() && !path.starts_with('/') {
        out.push('/');
    }
    out.push_str(&path);
    if let Some(Value::Object(query)) = args.get("query") {
        let pair = |(k, v): (&String, &Value)| {
            format!("{}={}", quote(k, SAFE), quote(&py_str(v), SAFE_PATH))
        };
        let pairs: Vec<String> = query.iter().map(pair).collect();
        if !pairs.is_empty() {
            out.push_str(&format!("?{}", pairs.join("&")));
        }
    }
    if !text("fragment").is_empty() {
        out.push_str(&format!("#{}", quote(&text("fragment"), SAFE)));
    }
    Ok(Value::String(out))
}
