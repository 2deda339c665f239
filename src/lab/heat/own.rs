//! Resource types that live in Heat itself: values, random texts, signals, configurations.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::failure::Failure;
use super::outlook::Outlook;
use super::stack::{Resource, Stack};
use crate::base::clock::Timestamp;
use crate::base::id::Entropy;

/// Makes one; returns its id and what it remembers.
pub fn make(kind: &str, properties: &Map<String, Value>, entropy: &Entropy) -> (String, Value) {
    let data = match kind {
        "OS::Heat::Value" => json!({"value": properties.get("value")}),
        "OS::Heat::RandomString" => {
            let length = properties.get("length").and_then(Value::as_u64).unwrap_or(32);
            let mut text = String::new();
            while (text.len() as u64) < length.min(512) {
                text.push_str(&entropy.password());
            }
            text.truncate(usize::try_from(length.min(512)).unwrap_or(512));
            json!({"value": text})
        }
        "OS::Heat::WaitConditionHandle" => json!({"signals": {}}),
        _ => Value::Null,
    };
    (entropy.uuid().to_string(), data)
}

/// An own type's new properties take effect.
pub fn updated(resource: &mut Resource) {
    if resource.data.get("value").is_some() && resource.properties.contains_key("value") {
        resource.data = json!({"value": resource.properties["value"]});
    }
}

/// Whether what it waits for has happened.
pub fn ready(outlook: &Outlook<'_>, resource: &Resource, now: Timestamp) -> Result<bool, Failure> {
    let kind = resource.kind.as_str();
    let property = |name: &str| resource.properties.get(name).and_then(Value::as_f64);
    match kind {
        "OS::Heat::WaitCondition" => {
            let empty = Map::new();
            let handle = outlook.handle(resource);
            let signals = handle.and_then(|h| h.data["signals"].as_object()).unwrap_or(&empty);
            let failed: Vec<&str> = signals
                .values()
                .filter(|s| s["status"] == "FAILURE")
                .map(|s| s["reason"].as_str().unwrap_or_default())
                .collect();
            if !failed.is_empty() {
                return Err(Failure::of(resource, "WaitConditionFailure", &failed.join(";")));
            }
            let wanted = property("count").unwrap_or(1.0);
            if signals.len() as f64 >= wanted {
                return Ok(true);
            }
            let patience =
                Duration::try_from_secs_f64(property("timeout").unwrap_or(0.0)).unwrap_or_default();
            if now > resource.updated.plus(patience) {
                let message = format!("{} of {wanted} received", signals.len());
                return Err(Failure::of(resource, "WaitConditionTimeout", &message));
            }
            Ok(false)
        }
        "OS::Heat::SoftwareDeployment" | "OS::Heat::StructuredDeployment" => {
            let silent = resource.properties.get("signal_transport") == Some(&json!("NO_SIGNAL"));
            let signal = &resource.data["signal"];
            let status = signal["deploy_status_code"].as_i64().unwrap_or(0);
            match signal {
                Value::Null => Ok(silent),
                _ if status != 0 => {
                    let message = format!(
                        "Deployment to server failed: deploy_status_code: Deployment exited with \
                         non-zero status code: {status}"
                    );
                    Err(Failure::of(resource, "Error", &message))
                }
                _ => Ok(true),
            }
        }
        _ => Ok(true),
    }
}

/// A signal arrives at a resource.
pub fn signal(stack: &mut Stack, name: &str, details: &Value) -> Result<(), String> {
    let Some(resource) = stack.resources.get_mut(name) else {
        let stack = &stack.identity.name;
        return Err(format!("The Resource ({name}) could not be found in Stack {stack}."));
    };
    if resource.physical.is_none() {
        return Err("Signal resource during INIT is not supported.".to_owned());
    }
    match resource.kind.as_str() {
        "OS::Heat::WaitConditionHandle" => {
            let count = resource.data["signals"].as_object().map_or(0, Map::len);
            let id = match &details["id"] {
                Value::String(id) => id.clone(),
                Value::Number(id) => id.to_string(),
                _ => (count + 1).to_string(),
            };
            let status = details["status"].as_str().unwrap_or("SUCCESS");
            let reason = details["reason"]
                .as_str()
                .map_or_else(|| format!("Signal {} received", count + 1), str::to_owned);
            resource.data["signals"][id] =
                json!({"status": status, "reason": reason, "data": details["data"]});
            Ok(())
        }
        kind if kind.contains("Deployment") => {
            resource.data =
                json!({"signal": if details.is_object() { details.clone() } else { json!({}) }});
            Ok(())
        }
        _ => Err("SIGNAL is not supported for resource.".to_owned()),
    }
}
