//! Constraints on parameters and properties, with the sentences they fail with.

use serde_json::{Value, json};

use super::parameters::number;
use super::pattern::Pattern;
use super::template::Version;
use super::text::{py_json, py_repr, py_str};

/// Asks whether a name or id exists: constraint, value.
pub type Lookup<'l> = &'l dyn Fn(&str, &str) -> Result<(), String>;

/// One constraint, with the template author's own sentence where there is one.
#[derive(Clone, Debug)]
pub struct Constraint {
    pub rule: Rule,
    pub description: Option<String>,
}

#[derive(Clone, Debug)]
pub enum Rule {
    Range(Option<f64>, Option<f64>),
    Length(Option<f64>, Option<f64>),
    Modulo(i64, i64),
    Allowed(Vec<Value>),
    Pattern(Pattern),
    Custom(String),
}

impl Constraint {
    /// Reads one entry of a parameter's `constraints`.
    pub fn read(body: &Value, version: Version) -> Result<Self, String> {
        let Value::Object(body) = body else {
            return Err("Invalid parameter constraints, expected a mapping".to_owned());
        };
        let known = [
            "description",
            "length",
            "range",
            "modulo",
            "allowed_values",
            "allowed_pattern",
            "custom_constraint",
        ];
        if let Some(key) = body.keys().find(|key| !known.contains(&key.as_str())) {
            return Err(format!("Invalid key '{key}' for parameter constraints"));
        }
        let pair = |kind: &str, keys: [&str; 2]| -> Result<[Option<f64>; 2], String> {
            let Some(Value::Object(pair)) = body.get(kind) else {
                return Err(format!("Invalid {kind} constraint, expected a mapping"));
            };
            if let Some(key) = pair.keys().find(|key| !keys.contains(&key.as_str())) {
                return Err(format!("Invalid key '{key}' for {kind} constraint"));
            }
            let mut out = [None, None];
            for (slot, key) in out.iter_mut().zip(keys) {
                if let Some(value) = pair.get(key).filter(|v| !v.is_null()) {
                    *slot = number(value)?.as_f64();
                }
            }
            Ok(out)
        };
        let rule = if body.contains_key("range") {
            let [min, max] = pair("range", ["min", "max"])?;
            if min.is_none() && max.is_none() {
                return Err("A range constraint must have a min value and/or a max value \
                            specified."
                    .to_owned());
            }
            Rule::Range(min, max)
        } else if body.contains_key("length") {
            let [min, max] = pair("length", ["min", "max"])?;
            if min.is_none() && max.is_none() {
                return Err("A length constraint must have a min value and/or a max value \
                            specified."
                    .to_owned());
            }
            Rule::Length(min, max)
        } else if body.contains_key("modulo") && version >= Version::OCATA {
            match pair("modulo", ["step", "offset"])? {
                [Some(0.0), _] => return Err("step cannot be 0.".to_owned()),
                [Some(a), Some(b)] if a.fract() != 0.0 || b.fract() != 0.0 => {
                    return Err("step/offset must be integer".to_owned());
                }
                [Some(step), Some(offset)] if offset.abs() >= step.abs() => {
                    return Err("offset must be smaller (by absolute value) than step.".to_owned());
                }
                [Some(step), Some(offset)] => Rule::Modulo(step as i64, offset as i64),
                _ => {
                    return Err("A modulo constraint must have a step value and an offset value \
                                specified."
                        .to_owned());
                }
            }
        } else if let Some(allowed) = body.get("allowed_values") {
            let Value::Array(allowed) = allowed else {
                return Err("AllowedValues must be a list".to_owned());
            };
            Rule::Allowed(allowed.clone())
        } else if let Some(pattern) = body.get("allowed_pattern") {
            let Value::String(pattern) = pattern else {
                return Err("AllowedPattern must be a string".to_owned());
            };
            Rule::Pattern(Pattern::new(pattern)?)
        } else if let Some(custom) = body.get("custom_constraint") {
            Rule::Custom(py_str(custom))
        } else {
            return Err("No constraint expressed".to_owned());
        };
        let description = body.get("description").and_then(Value::as_str).map(str::to_owned);
        Ok(Self { rule, description })
    }

    pub fn check(&self, value: &Value, lookup: Lookup<'_>) -> Result<(), String> {
        self.rule.check(value, lookup).map_err(|own| self.description.clone().unwrap_or(own))
    }

    /// The constraint as `POST validate` lists it beside a parameter.
    pub fn describe(&self, parameter: &mut Value) {
        let mut put = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                parameter[key] = value;
            }
        };
        let whole = |n: Option<f64>| n.map(plain);
        match &self.rule {
            Rule::Range(min, max) => {
                put("MinValue", whole(*min));
                put("MaxValue", whole(*max));
            }
            Rule::Length(min, max) => {
                put("MinLength", whole(*min));
                put("MaxLength", whole(*max));
            }
            Rule::Modulo(step, offset) => {
                put("Modulo", Some(json!({"Step": step, "Offset": offset})));
            }
            Rule::Allowed(values) => put("AllowedValues", Some(Value::Array(values.clone()))),
            Rule::Pattern(pattern) => put("AllowedPattern", Some(json!(pattern.source()))),
            Rule::Custom(name) => put("CustomConstraint", Some(json!(name))),
        }
        if let Some(description) = &self.description {
            parameter["ConstraintDescription"] = json!(description);
        }
    }
}

impl Rule {
    pub fn check(&self, value: &Value, lookup: Lookup<'_>) -> Result<(), String> {
        match self {
            Self::Range(min, max) => {
                let given = number(value)?;
                let at = given.as_f64().unwrap_or(0.0);
                if min.is_some_and(|min| at < min) || max.is_some_and(|max| at > max) {
                    return Err(format!(
                        "{} is out of range (min: {}, max: {})",
                        py_str(value),
                        bound(*min),
                        bound(*max)
                    ));
                }
            }
            Self::Length(min, max) => {
                let length = match value {
                    Value::String(text) => text.chars().count(),
                    Value::Array(items) => items.len(),
                    Value::Object(map) => map.len(),
                    _ => return Ok(()),
                };
                let at = length as f64;
                if min.is_some_and(|min| at < min) || max.is_some_and(|max| at > max) {
                    return Err(format!(
                        "length ({length}) is out of range (min: {}, max: {})",
                        bound(*min),
                        bound(*max)
                    ));
                }
            }
            Self::Modulo(step, offset) => {
                let at = number(value)?.as_f64().unwrap_or(0.0) as i64;
                if at.checked_rem_euclid(*step) != offset.checked_rem_euclid(*step) {
                    return Err(format!(
                        "{} is not a multiple of {step} with an offset of {offset}",
                        py_str(value)
                    ));
                }
            }
            Self::Allowed(allowed) => {
                // Numbers and their texts are the same here, as they are after Heat's conversion.
                let among = |v: &Value| allowed.iter().any(|a| a == v || py_str(a) == py_str(v));
                let fine = match value {
                    Value::Array(items) => items.iter().all(among),
                    one => among(one),
                };
                if !fine {
                    let list: Vec<String> = allowed.iter().map(py_json).collect();
                    return Err(format!(
                        "{} is not an allowed value [{}]",
                        py_json(value),
                        list.join(", ")
                    ));
                }
            }
            Self::Pattern(pattern) => {
                let text = py_str(value);
                if !pattern.matches(&text) {
                    return Err(format!(
                        "\"{text}\" does not match pattern \"{}\"",
                        pattern.source()
                    ));
                }
            }
            Self::Custom(name) => custom(name, value, lookup)?,
        }
        Ok(())
    }
}

fn custom(name: &str, value: &Value, lookup: Lookup<'_>) -> Result<(), String> {
    let text = match value {
        Value::Null => return Ok(()),
        // An empty text is how an unset property arrives.
        Value::String(text) if text.is_empty() => return Ok(()),
        Value::String(text) => text.clone(),
        other => py_str(other),
    };
    let verdict = match name {
        "net_cidr" => {
            cidr(&text).map_err(|_| format!("Invalid net cidr invalid IPNetwork {text} "))
        }
        "ip_addr" => text
            .parse::<std::net::IpAddr>()
            .map(|_| ())
            .map_err(|_| "Invalid IP address".to_owned()),
        "ip_or_cidr" => {
            if text.parse::<std::net::IpAddr>().is_ok() || cidr(&text).is_ok() {
                Ok(())
            } else {
                Err(format!("{text} is not a valid IP or CIDR"))
            }
        }
        "mac_addr" => {
            let octets: Vec<&str> = text.split(':').collect();
            let fine = octets.len() == 6
                && octets.iter().all(|o| o.len() == 2 && u8::from_str_radix(o, 16).is_ok());
            if fine { Ok(()) } else { Err("Invalid MAC address.".to_owned()) }
        }
        name if name.contains('.') => lookup(name, &text),
        _ => Ok(()),
    };
    verdict.map_err(|why| format!("Error validating value {}: {why}", py_repr(&json!(text))))
}

fn cidr(text: &str) -> Result<(), ()> {
    let (address, bits) = text.split_once('/').ok_or(())?;
    let address: std::net::IpAddr = address.parse().map_err(|_| ())?;
    let bits: u8 = bits.parse().map_err(|_| ())?;
    if bits <= if address.is_ipv4() { 32 } else { 128 } { Ok(()) } else { Err(()) }
}

fn plain(number: f64) -> Value {
    if number.fract() == 0.0 && number.abs() < 1e15 { json!(number as i64) } else { json!(number) }
}

fn bound(limit: Option<f64>) -> String {
    limit.map_or_else(|| "None".to_owned(), |n| plain(n).to_string())
}
