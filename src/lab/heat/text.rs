//! YAML and JSON in, and values back out as Heat (a Python program) spells them.

use serde_json::Value;

use super::refusal::Refusal;

/// Heat's `max_template_size`.
pub const TEMPLATE_LIMIT: usize = 512 * 1024;

/// A template's text as a mapping: JSON if it is JSON, else YAML.
pub fn parse_template(text: &str) -> Result<Value, Refusal> {
    if text.len() > TEMPLATE_LIMIT {
        return Err(Refusal::limit(format!(
            "Template size ({} bytes) exceeds maximum allowed size ({TEMPLATE_LIMIT} bytes).",
            text.len()
        )));
    }
    let parsed = parse(text)
        .map_err(|error| format!("Error parsing template [root stack] {error}"))
        .and_then(|value| match value {
            Value::Object(map) if map.contains_key("heat_template_version") => {
                Ok(Value::Object(map))
            }
            Value::Object(_) | Value::Null => Err("Template format version not found.".to_owned()),
            _ => Err("The template is not a JSON object or YAML mapping.".to_owned()),
        });
    parsed.map_err(|error| Refusal::bad_request(format!("Template not in valid format: {error}")))
}

/// Any YAML or JSON text. A key given twice is an error here, although Heat's parser lets the
/// last one win: a template that says two things is a mistake worth finding in a lab.
pub fn parse(text: &str) -> Result<Value, String> {
    if let Ok(value) = serde_json::from_str(text) {
        return Ok(value);
    }
    let options = serde_saphyr::options! {
        duplicate_keys: serde_saphyr::options::DuplicateKeyPolicy::Error,
        // Heat's parser takes `yes` for a truth but `y` for a letter; this one knows both or
        // neither, and letters are names. Boolean properties accept the words instead.
        strict_booleans: true,
        legacy_octal_numbers: true,
        budget: serde_saphyr::budget! {
            max_depth: 100,
            max_nodes: 1_000_000,
            max_events: 2_000_000,
        },
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|e| e.to_string())
}

/// `str(value)`.
pub fn py_str(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => py_repr(other),
    }
}

/// `repr(value)`.
pub fn py_repr(value: &Value) -> String {
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text) if text.contains('\'') && !text.contains('"') => format!("\"{text}\""),
        Value::String(text) => format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'")),
        Value::Array(items) => {
            format!("[{}]", items.iter().map(py_repr).collect::<Vec<_>>().join(", "))
        }
        Value::Object(map) => {
            let pairs = map
                .iter()
                .map(|(k, v)| format!("{}: {}", py_repr(&Value::String(k.clone())), py_repr(v)));
            format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))
        }
    }
}

/// `json.dumps(value, sort_keys=True)`: a space after every comma and colon.
pub fn py_json(value: &Value) -> String {
    match value {
        Value::Array(items) => {
            format!("[{}]", items.iter().map(py_json).collect::<Vec<_>>().join(", "))
        }
        Value::Object(map) => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort();
            let pairs = keys
                .into_iter()
                .map(|key| format!("{}: {}", Value::String(key.clone()), py_json(&map[key])));
            format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

/// Python's name of a value's type, as it appears in Heat's sentences.
pub fn py_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "NoneType",
        Value::Bool(_) => "bool",
        Value::Number(n) if n.is_f64() => "float",
        Value::Number(_) => "int",
        Value::String(_) => "str",
        Value::Array(_) => "list",
        Value::Object(_) => "dict",
    }
}

/// Python's truth of a value.
pub fn truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(b) => *b,
        Value::Number(n) => n.as_f64() != Some(0.0),
        Value::String(s) => !s.is_empty(),
        Value::Array(a) => !a.is_empty(),
        Value::Object(o) => !o.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn yaml_and_json_are_read_and_mistakes_are_named() {
        let yaml = parse_template("heat_template_version: 2018-08-31\nx: true\ny: n\n").unwrap();
        assert_eq!(yaml["heat_template_version"], "2018-08-31");
        assert_eq!((&yaml["x"], &yaml["y"]), (&json!(true), &json!("n")));
        assert!(parse_template(r#"{"heat_template_version": "rocky"}"#).is_ok());
        let says = |text: &str| parse_template(text).unwrap_err().message;
        assert!(says("a: [}").contains("Error parsing template [root stack]"));
        assert!(says("resources: {}").ends_with("Template format version not found."));
        assert!(says("foo").ends_with("not a JSON object or YAML mapping."));
        assert!(says("heat_template_version: rocky\na: 1\na: 2\n").contains("duplicate"));
        let long = format!("heat_template_version: rocky # {}", "x".repeat(TEMPLATE_LIMIT));
        assert!(says(&long).contains("exceeds maximum allowed size (524288 bytes)"));
        let deep = format!("heat_template_version: rocky\nx: {}", "[".repeat(50_000));
        assert!(parse_template(&deep).is_err());
    }

    #[test]
    fn values_are_spelled_as_python_spells_them() {
        assert_eq!(py_str(&json!(true)), "True");
        assert_eq!(py_repr(&json!({"a": ["x", 1, null]})), "{'a': ['x', 1, None]}");
        assert_eq!(py_json(&json!({"b": [1, 2], "a": "x"})), r#"{"a": "x", "b": [1, 2]}"#);
    }
}
