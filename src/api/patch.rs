//! JSON Patch as far as Magnum goes: add, replace, remove on an object's attributes and,
//! one level down, on the members of a map.

use serde_json::{Map, Value};

use super::coerce::{self, shown};
use super::error::{ApiError, Outcome};
use super::python_literal;
use super::unrepeated::Unread;

/// What of a resource may be patched.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Attributes that are ours alone.
    pub internal: &'static [&'static str],
    /// Attributes that cannot be removed.
    pub mandatory: &'static [&'static str],
    /// Attributes that hold maps or lists; clients may send them as text.
    pub structured: &'static [&'static str],
}

/// Internal to every kind of resource.
const INTERNAL: [&str; 7] =
    ["created_at", "id", "links", "updated_at", "uuid", "project_id", "user_id"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Add,
    Replace,
    Remove,
}

/// One step of a patch.
#[derive(Clone, Debug, PartialEq)]
struct Step {
    verb: Verb,
    /// As sent, for sentences.
    path: String,
    attribute: String,
    /// The member of the attribute's map, if the path has a second part.
    member: Option<String>,
    value: Value,
}

/// A patch whose form is right.
#[derive(Clone, Debug, PartialEq)]
pub struct Patch {
    steps: Vec<Step>,
}

impl Patch {
    pub fn read(body: &Value, rules: &Rules) -> Outcome<Self> {
        let Value::Array(items) = body else {
            let why = format!("Value not a valid list: {}", cut(&shown(body)));
            return Err(ApiError::field("patch", shown(body), why));
        };
        let steps = items.iter().map(|item| Step::read(item, rules)).collect::<Outcome<_>>()?;
        Ok(Self { steps })
    }

    /// Whether a step is about the attribute.
    pub fn touches(&self, attribute: &str) -> bool {
        self.steps.iter().any(|step| step.attribute == attribute)
    }

    /// Applies all steps to the attributes, or none: on an error the map is to be dropped.
    /// Removed attributes are null afterwards.
    pub fn apply(&self, mut attributes: Map<String, Value>) -> Outcome<Map<String, Value>> {
        for step in &self.steps {
            step.apply(&mut attributes)?;
        }
        Ok(attributes)
    }
}

impl Step {
    fn read(item: &Value, rules: &Rules) -> Outcome<Self> {
        let Value::Object(map) = item else {
            return Err(ApiError::field("patch", shown(item), "Value should be an object."));
        };
        if let Some(odd) = map.keys().find(|k| !matches!(k.as_str(), "op" | "path" | "value")) {
            return Err(ApiError::invalid(format!(
                "Unknown attribute for argument patch: {}",
                cut(odd)
            )));
        }
        let path = match map.get("path") {
            None | Some(Value::Null) => return Err(coerce::mandatory("path")),
            Some(Value::String(path)) => path.clone(),
            Some(odd) => return Err(ApiError::field("path", shown(odd), "Value should be string")),
        };
        let verb = match map.get("op") {
            None | Some(Value::Null) => return Err(coerce::mandatory("op")),
            Some(Value::String(verb)) if verb == "add" => Verb::Add,
            Some(Value::String(verb)) if verb == "replace" => Verb::Replace,
            Some(Value::String(verb)) if verb == "remove" => Verb::Remove,
            Some(odd) => {
                let why = "Value should be one of: replace, remove, add";
                return Err(ApiError::field("op", shown(odd), why));
            }
        };
        let (attribute, member) = split(&path).ok_or_else(|| {
            ApiError::field("path", &path, "Value should match the pattern ^(/[\\w-]+)+$")
        })?;
        let named = attribute.as_str();
        if INTERNAL.contains(&named) || rules.internal.contains(&named) {
            return Err(ApiError::invalid(format!(
                "'{}' is an internal attribute and can not be updated",
                cut(&path)
            )));
        }
        if verb == Verb::Remove && member.is_none() && rules.mandatory.contains(&named) {
            return Err(ApiError::invalid(format!(
                "'{}' is a mandatory attribute and can not be removed",
                cut(&path)
            )));
        }
        let mut value = map.get("value").cloned().unwrap_or_default();
        if verb != Verb::Remove && value.is_null() {
            return Err(ApiError::invalid("'add' and 'replace' operations needs value"));
        }
        if member.is_none()
            && rules.structured.contains(&named)
            && let Value::String(text) = &value
        {
            value = python_literal::parse(text).map_err(|e| match e {
                Unread::Repeated { name, .. } => coerce::repeated(named, &name),
                Unread::Malformed => {
                    let why = "Value should be a map, as an object or as text such as \
                               {'name': 'value'}; a quote inside a text is written \\'.";
                    ApiError::field(named, text, why)
                }
            })?;
        }
        Ok(Self { verb, path, attribute, member, value })
    }

    fn apply(&self, attributes: &mut Map<String, Value>) -> Outcome<()> {
        let refused = |reason: &str| {
            let value = match self.verb {
                Verb::Remove => String::new(),
                _ => format!(", 'value': {}", cut(&self.value.to_string())),
            };
            ApiError::invalid(format!(
                "Couldn't apply patch '[{{'path': '{}', 'op': '{}'{value}}}]'. Reason: {reason}",
                cut(&self.path),
                self.verb.as_str(),
            ))
        };
        let Some(current) = attributes.get_mut(&self.attribute) else {
            return Err(match self.verb {
                Verb::Add => ApiError::invalid(format!(
                    "Adding a new attribute {} to the root of the resource is not allowed.",
                    cut(&self.path)
                )),
                verb => refused(&format!(
                    "can't {} a non-existent object '{}'",
                    verb.as_str(),
                    cut(&self.attribute)
                )),
            });
        };
        let Some(member) = &self.member else {
            if self.verb == Verb::Add && !is_unset(current) {
                return Err(ApiError::invalid(format!(
                    "The attribute {} has existed, please use 'replace' operation instead.",
                    cut(&self.path)
                )));
            }
            *current = match self.verb {
                Verb::Remove => Value::Null,
                Verb::Add | Verb::Replace => self.value.clone(),
            };
            return Ok(());
        };
        let missing = |verb: Verb| {
            refused(&format!("can't {} a non-existent object '{}'", verb.as_str(), cut(member)))
        };
        if current.is_null() && self.verb == Verb::Add {
            *current = Value::Object(Map::new());
        }
        let Value::Object(map) = current else {
            return Err(refused(&format!("'{}' has no members", cut(&self.attribute))));
        };
        match self.verb {
            Verb::Remove => map.remove(member).map(drop).ok_or_else(|| missing(self.verb))?,
            Verb::Replace if !map.contains_key(member) => return Err(missing(self.verb)),
            Verb::Add | Verb::Replace => {
                map.insert(member.clone(), self.value.clone());
            }
        }
        Ok(())
    }
}

impl Verb {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Replace => "replace",
            Self::Remove => "remove",
        }
    }
}

/// An empty map is as good as none: a patch may add the first members whole.
fn is_unset(value: &Value) -> bool {
    value.is_null() || value.as_object().is_some_and(Map::is_empty)
}

/// `/attribute` or `/attribute/member`, with RFC 6901 escapes.
fn split(path: &str) -> Option<(String, Option<String>)> {
    let mut parts = path.strip_prefix('/')?.split('/');
    let attribute = parts.next().filter(|part| !part.is_empty())?;
    let member = parts.next();
    if parts.next().is_some() || member == Some("") {
        return None;
    }
    let plain = attribute.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-');
    let unescape = |part: &str| part.replace("~1", "/").replace("~0", "~");
    plain.then(|| (attribute.to_owned(), member.map(unescape)))
}

fn cut(text: &str) -> String {
    text.chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const RULES: Rules =
        Rules { internal: &["stack_id"], mandatory: &["image_id"], structured: &["labels"] };

    fn attributes() -> Map<String, Value> {
        let Value::Object(map) =
            json!({ "name": "golden", "image_id": "i", "dns": null, "labels": { "x": "y" } })
        else {
            unreachable!()
        };
        map
    }

    fn patched(body: Value) -> Result<Value, String> {
        let done = Patch::read(&body, &RULES).and_then(|patch| patch.apply(attributes()));
        done.map(Value::Object).map_err(|e| e.detail().to_owned())
    }

    #[test]
    fn attributes_and_members_change() {
        let table = [
            (json!([{ "op": "replace", "path": "/name", "value": "n" }]), "/name", json!("n")),
            (
                json!([{ "op": "add", "path": "/dns", "value": "1.1.1.1" }]),
                "/dns",
                json!("1.1.1.1"),
            ),
            (json!([{ "op": "remove", "path": "/name" }]), "/name", Value::Null),
            (
                json!([{ "op": "add", "path": "/labels/a~1b.c", "value": "1" }]),
                "/labels/a~1b.c",
                json!("1"),
            ),
            (
                json!([{ "op": "replace", "path": "/labels/x", "value": "z" }]),
                "/labels/x",
                json!("z"),
            ),
            (
                json!([{ "op": "replace", "path": "/labels", "value": "{'k': 'v'}" }]),
                "/labels/k",
                json!("v"),
            ),
            (
                json!([{ "op": "replace", "path": "/labels", "value": { "k": "v" } }]),
                "/labels",
                json!({ "k": "v" }),
            ),
            (
                json!([{ "op": "remove", "path": "/labels" }, { "op": "add", "path": "/labels/b", "value": 1 }]),
                "/labels",
                json!({ "b": 1 }),
            ),
        ];
        for (body, pointer, expected) in table {
            let after = patched(body.clone()).unwrap();
            assert_eq!(after.pointer(pointer), Some(&expected), "{body}");
        }
        assert_eq!(patched(json!([])).unwrap(), Value::Object(attributes()));
    }

    #[test]
    fn refusals_speak_upstreams_sentences() {
        let table = [
            (json!({ "op": "replace" }), "Value not a valid list"),
            (json!(["x"]), "Value should be an object"),
            (
                json!([{ "op": "test", "path": "/name", "value": "x" }]),
                "one of: replace, remove, add",
            ),
            (
                json!([{ "op": "move", "path": "/name", "from": "/x" }]),
                "Unknown attribute for argument patch: from",
            ),
            (
                json!([{ "op": "replace", "value": "x" }]),
                "attribute path. Value: 'None'. Mandatory",
            ),
            (json!([{ "path": "/name", "value": "x" }]), "attribute op. Value: 'None'. Mandatory"),
            (
                json!([{ "op": "replace", "path": "name", "value": "x" }]),
                "should match the pattern",
            ),
            (json!([{ "op": "replace", "path": "/", "value": "x" }]), "should match the pattern"),
            (
                json!([{ "op": "replace", "path": "/a/b/c", "value": "x" }]),
                "should match the pattern",
            ),
            (json!([{ "op": "replace", "path": "/name" }]), "operations needs value"),
            (
                json!([{ "op": "replace", "path": "/uuid", "value": "x" }]),
                "'/uuid' is an internal attribute",
            ),
            (
                json!([{ "op": "replace", "path": "/stack_id", "value": "x" }]),
                "'/stack_id' is an internal attribute",
            ),
            (
                json!([{ "op": "remove", "path": "/image_id" }]),
                "'/image_id' is a mandatory attribute",
            ),
            (
                json!([{ "op": "add", "path": "/colour", "value": "red" }]),
                "Adding a new attribute /colour",
            ),
            (
                json!([{ "op": "replace", "path": "/colour", "value": "red" }]),
                "can't replace a non-existent object 'colour'",
            ),
            (
                json!([{ "op": "add", "path": "/name", "value": "x" }]),
                "has existed, please use 'replace'",
            ),
            (
                json!([{ "op": "replace", "path": "/labels/q", "value": "x" }]),
                "can't replace a non-existent object 'q'",
            ),
            (
                json!([{ "op": "remove", "path": "/labels/q" }]),
                "can't remove a non-existent object 'q'",
            ),
            (json!([{ "op": "replace", "path": "/labels", "value": "{'k'" }]), "attribute labels"),
            (json!([{ "op": "add", "path": "/name/x", "value": "x" }]), "has no members"),
        ];
        for (body, sentence) in table {
            let refused = patched(body.clone()).unwrap_err();
            assert!(refused.contains(sentence), "{body}: {refused}");
        }
    }

    proptest! {
        #[test]
        fn no_patch_panics(
            steps in proptest::collection::vec(
                (
                    prop::sample::select(vec!["add", "replace", "remove", "test", ""]),
                    "(/(name|labels|x~1|uuid|dns|é)?){0,3}",
                    prop::sample::select(vec![
                        json!("x"), json!(1), json!(null), json!({ "a": null }), json!("{'a': 'b'}"),
                        json!([[]]),
                    ]),
                ),
                0..6,
            ),
        ) {
            let body: Vec<Value> = steps
                .iter()
                .map(|(op, path, value)| json!({ "op": op, "path": path, "value": value }))
                .collect();
            let _ = patched(Value::Array(body));
        }
    }
}
