//! Reading requests: bodies into orders, query strings into what they ask for.

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};

use super::engine::Order;
use super::environment::{Environment, Files};
use super::refusal::{Invalid, Refusal};
use super::text::{self, py_str};
use crate::base::http::server::{BodyError, Request};

/// Heat's `max_json_body_size`.
pub const BODY_LIMIT: usize = 1 << 20;

/// The JSON body, if there is one.
pub fn body(request: &Request) -> Result<Option<Map<String, Value>>, Refusal> {
    let too_large = |length: String| {
        Refusal::limit(format!(
            "JSON body size ({length} bytes) exceeds maximum allowed size ({BODY_LIMIT} bytes)."
        ))
    };
    let bytes = match &request.body {
        Ok(bytes) if bytes.len() > BODY_LIMIT => return Err(too_large(bytes.len().to_string())),
        Ok(bytes) => bytes,
        Err(BodyError::TooLarge { limit }) => return Err(too_large(format!("more than {limit}"))),
        Err(error) => return Err(Refusal::bad_request(error.to_string())),
    };
    let kind = request.header("content-type").unwrap_or("application/json");
    if bytes.is_empty() || !kind.contains("json") && !kind.contains("text/plain") {
        return Ok(None);
    }
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(map)) => Ok(Some(map)),
        Ok(Value::Null) => Ok(None),
        Ok(other) => {
            let found = text::py_type(&other);
            Err(Refusal::new(
                "AttributeError",
                format!("'{found}' object has no attribute 'items'"),
            ))
        }
        Err(error) => Err(Refusal::bad_request(format!("Request is not valid JSON: {error}"))),
    }
}

/// A body that must be there.
pub fn needed(request: &Request) -> Result<Map<String, Value>, Refusal> {
    body(request)?.ok_or_else(|| {
        Refusal::bad_request(
            "The server could not comply with the request since it is either malformed or \
             otherwise incorrect.",
        )
    })
}

/// A stack's name, if it may be one.
pub fn stack_name(body: &Map<String, Value>) -> Result<String, Refusal> {
    let Some(name) = body.get("stack_name") else {
        return Err(Refusal::bad_request("No stack name specified"));
    };
    let invalid = |message: String| Err(Refusal::from(Invalid::new(message)));
    let Value::String(name) = name else {
        return invalid(format!("Invalid stack name {}, must be a string", py_str(name)));
    };
    let mut bytes = name.bytes();
    let fine = bytes.next().is_some_and(|b| b.is_ascii_alphabetic())
        && bytes.all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
        && name.len() <= 255;
    if !fine {
        return invalid(format!(
            "Invalid stack name {name} must contain only alphanumeric or \"_-.\" characters, must \
             start with alpha and must be 255 characters or less."
        ));
    }
    Ok(name.clone())
}

/// What a body asks a stack to be. Without `existing` a template is needed.
pub fn order(body: &Map<String, Value>, existing: bool) -> Result<Order, Refusal> {
    let template = match body.get("template").filter(|t| !t.is_null()) {
        Some(Value::String(source)) => Some(text::parse_template(source)?),
        Some(template @ Value::Object(_)) => Some(template.clone()),
        Some(_) => {
            let message = "Template not in valid format: The template is not a JSON object or \
                           YAML mapping.";
            return Err(Refusal::bad_request(message));
        }
        None if body.contains_key("template_url") => {
            let url = py_str(&body["template_url"]);
            return Err(Refusal::bad_request(format!("Could not retrieve template: {url}")));
        }
        None if existing => None,
        None => return Err(Refusal::bad_request("No template specified")),
    };
    let files = files(body)?;
    let mut environment = Environment::default();
    match body.get("environment_files").filter(|v| !v.is_null()) {
        Some(Value::Array(names)) => {
            for name in names.iter().map(py_str) {
                let Some(source) = files.get(&name) else {
                    let message = format!("Could not find environment file \"{name}\"");
                    return Err(Refusal::bad_request(message));
                };
                environment.extend(Environment::read(&json!(source))?);
            }
        }
        Some(_) => return Err(Refusal::bad_request("environment_files must be a list")),
        None => {
            if let Some(given) = body.get("environment") {
                environment = Environment::read(given)?;
            }
        }
    }
    match body.get("parameters") {
        None | Some(Value::Null) => {}
        Some(Value::Object(parameters)) => environment.parameters.extend(parameters.clone()),
        Some(other) => {
            let found = text::py_type(other);
            return Err(Refusal::new("ValueError", format!("parameters is a {found}, not a map")));
        }
    }
    let timeout_minutes = match body.get("timeout_mins").filter(|v| !v.is_null()) {
        Some(given) => Some(whole("timeout_mins", &py_str(given))?),
        None => None,
    };
    let disable_rollback = match body.get("disable_rollback").filter(|v| !v.is_null()) {
        Some(given) => Some(truth("disable_rollback", &py_str(given))?),
        None => None,
    };
    let tags = match body.get("tags").filter(|v| !v.is_null()) {
        Some(Value::String(tags)) => Some(split_tags(tags)?),
        Some(other) => {
            let found = text::py_type(other);
            let message = format!("'{found}' object has no attribute 'split'");
            return Err(Refusal::new("AttributeError", message));
        }
        None => None,
    };
    if existing {
        // A PATCH is allowed to say nothing at all.
    } else if body.contains_key("converge") {
        let message = "converge flag only supported in stack update (or update preview) request.";
        return Err(Refusal::bad_request(message));
    }
    let clear = body.get("clear_parameters").and_then(Value::as_array);
    Ok(Order {
        template,
        files,
        environment,
        timeout_minutes,
        disable_rollback,
        tags,
        existing,
        clear_parameters: clear.into_iter().flatten().map(py_str).collect(),
    })
}

fn files(body: &Map<String, Value>) -> Result<Files, Refusal> {
    match body.get("files") {
        None | Some(Value::Null) => Ok(Files::new()),
        Some(Value::Object(files)) => Ok(files
            .iter()
            .map(|(name, content)| {
                let text = match content {
                    Value::String(text) => text.clone(),
                    // Clients send parsed templates as objects.
                    other => other.to_string(),
                };
                (name.clone(), text)
            })
            .collect()),
        Some(other) => {
            let found = text::py_type(other);
            Err(Refusal::new("ValueError", format!("files is a {found}, not a map")))
        }
    }
}

pub fn split_tags(text: &str) -> Result<Vec<String>, Refusal> {
    let tags: Vec<String> = text.split(',').map(str::to_owned).collect();
    match tags.iter().find(|tag| tag.chars().count() > 80) {
        Some(tag) => Err(Refusal::bad_request(format!(
            "Invalid tag, \"{tag}\" is longer than 80 characters"
        ))),
        None => Ok(tags),
    }
}

/// A non-negative number.
pub fn whole(name: &str, text: &str) -> Result<u64, Refusal> {
    match text.parse::<i64>() {
        Err(_) => Err(Refusal::bad_request(format!("Only integer is acceptable by '{name}'."))),
        Ok(number) => u64::try_from(number).map_err(|_| {
            Refusal::bad_request(format!(
                "Value '{text}' is invalid for '{name}' which only accepts non-negative integer."
            ))
        }),
    }
}

pub fn truth(name: &str, text: &str) -> Result<bool, Refusal> {
    match text.to_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(Refusal::bad_request(format!(
            "Unrecognized value \"{text}\" for \"{name}\", acceptable values are: true, false."
        ))),
    }
}

/// A query string's pairs; a key may come more than once.
#[derive(Debug, Default)]
pub struct Query(BTreeMap<String, Vec<String>>);

impl Query {
    pub fn read(query: Option<&str>) -> Self {
        let mut out = BTreeMap::<String, Vec<String>>::new();
        for pair in query.unwrap_or_default().split('&').filter(|p| !p.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            out.entry(decode(key)).or_default().push(decode(value));
        }
        Self(out)
    }

    pub fn first(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.first().map(String::as_str)
    }

    pub fn all(&self, key: &str) -> &[String] {
        self.0.get(key).map(Vec::as_slice).unwrap_or_default()
    }

    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    pub fn truth(&self, key: &str, default: bool) -> Result<bool, Refusal> {
        self.first(key).map_or(Ok(default), |text| truth(key, text))
    }

    pub fn whole(&self, key: &str) -> Result<Option<u64>, Refusal> {
        self.first(key).map(|text| whole(key, text)).transpose()
    }

    pub fn tags(&self, key: &str) -> Result<Option<Vec<String>>, Refusal> {
        self.first(key).map(split_tags).transpose()
    }
}

fn decode(text: &str) -> String {
    let spaced = text.replace('+', " ");
    percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
}

/// A path's pieces, decoded.
pub fn pieces(path: &str) -> Vec<String> {
    path.trim_matches('/')
        .split('/')
        .map(|piece| percent_decode_str(piece).decode_utf8_lossy().into_owned())
        .collect()
}
