//! HOT's intrinsic functions: which exist, how they are written, what they mean.

use serde_json::{Map, Value, json};

use super::combine;
use super::refusal::Invalid;
use super::template::Version;
use super::text::{py_repr, truthy};

/// What functions are evaluated against.
pub trait Scope {
    fn version(&self) -> Version;
    fn parameter(&self, name: &str) -> Result<Value, String>;
    /// `get_resource`: what stands for a resource.
    fn reference(&self, name: &str) -> Result<Value, String>;
    /// `get_attr` without its path; all attributes when no name is given.
    fn attribute(&self, name: &str, attribute: Option<&str>) -> Result<Value, String>;
    /// For attributes that take the path themselves, such as a group's.
    fn attribute_at(&self, name: &str, attribute: &str, path: &[Value]) -> Result<Value, String> {
        Ok(select(self.attribute(name, Some(attribute))?, path))
    }
    fn file(&self, name: &str) -> Option<String>;
    fn condition(&self, name: &str) -> Result<bool, String>;
}

/// Functions and the version each appeared in.
const FUNCTIONS: [(&str, Version); 20] = [
    ("get_param", Version::KILO),
    ("get_resource", Version::KILO),
    ("get_attr", Version::KILO),
    ("get_file", Version::KILO),
    ("str_replace", Version::KILO),
    ("list_join", Version::KILO),
    ("resource_facade", Version::KILO),
    ("repeat", Version::KILO),
    ("digest", Version::KILO),
    ("str_split", Version::LIBERTY),
    ("map_merge", Version::MITAKA),
    ("map_replace", Version::NEWTON),
    ("yaql", Version::NEWTON),
    ("if", Version::NEWTON),
    ("filter", Version::OCATA),
    ("str_replace_strict", Version::OCATA),
    ("str_replace_vstrict", Version::PIKE),
    ("list_concat", Version::PIKE),
    ("list_concat_unique", Version::PIKE),
    ("contains", Version::PIKE),
];
const REMOVED: [&str; 9] = [
    "Fn::GetAZs",
    "Fn::Join",
    "Fn::Split",
    "Fn::Replace",
    "Fn::Base64",
    "Fn::MemberListToMap",
    "Fn::ResourceFacade",
    "Fn::Select",
    "Ref",
];
/// Known to condition definitions only.
pub const CONDITIONAL: [&str; 5] = ["equals", "not", "and", "or", "contains"];

/// The function a mapping calls, if it is one key and that key is a function.
pub fn call(version: Version, value: &Value) -> Option<(&str, &Value)> {
    let map = value.as_object()?;
    if map.len() != 1 {
        return None;
    }
    let (name, args) = map.iter().next()?;
    // The oldest versions differ in details nobody relies on: everything up to Kilo knows
    // what Kilo knew.
    let known =
        FUNCTIONS.iter().any(|(f, since)| f == name && version.max(Version::KILO) >= *since)
            || name == "make_url" && version >= Version::PIKE
            || REMOVED.contains(&name.as_str());
    known.then_some((name.as_str(), args))
}

/// Checks how functions are written, before any value is known. The path says where.
pub fn check(version: Version, value: &Value) -> Result<(), Invalid> {
    if let Some((name, args)) = call(version, value) {
        return shape(version, name, args)
            .map_err(|m| Invalid::new(m).within(&[name]))
            .and_then(|()| check_inside(version, args).map_err(|invalid| invalid.within(&[name])));
    }
    check_inside(version, value)
}

fn check_inside(version: Version, value: &Value) -> Result<(), Invalid> {
    match value {
        Value::Array(items) => items.iter().enumerate().try_for_each(|(i, item)| {
            check(version, item).map_err(|e| e.within(&[&i.to_string()]))
        }),
        Value::Object(map) => {
            map.iter().try_for_each(|(k, v)| check(version, v).map_err(|e| e.within(&[k])))
        }
        _ => Ok(()),
    }
}

fn shape(version: Version, name: &str, args: &Value) -> Result<(), String> {
    let wrong = |fine: bool, sentence: &str| if fine { Ok(()) } else { Err(sentence.to_owned()) };
    match name {
        _ if REMOVED.contains(&name) => Err(format!(
            "The template version is invalid: The function {name} is not supported in this \
             version of HOT."
        )),
        // Heat evaluates these two; the lab has no interpreter for the one and no parent
        // resource's metadata for the other.
        "yaql" | "resource_facade" => {
            Err(format!("The function {name} is not available in this lab."))
        }
        "get_attr" => match args {
            Value::Array(a) if a.is_empty() => Err("Arguments to \"get_attr\" can be of the next \
                 forms: [resource_name] or [resource_name, attribute, (path), ...]"
                .to_owned()),
            Value::Array(_) => Ok(()),
            Value::String(_) => Ok(()),
            _ => Err("Argument to \"get_attr\" must be a list".to_owned()),
        },
        "str_replace" | "str_replace_strict" | "str_replace_vstrict" => {
            let Value::Object(map) = args else {
                return Err(format!("Arguments to \"{name}\" must be a map"));
            };
            let (Some(params), Some(_)) = (map.get("params"), map.get("template")) else {
                let example = format!(
                    "{name}:\\n              template: This is var1 template var2\\n              \
                     params:\\n                var1: a\\n                var2: string"
                );
                return Err(format!("'\"{name}\" syntax should be {example}'"));
            };
            wrong(params.is_object(), &format!("\"{name}\" parameters must be a mapping"))
        }
        "list_join" => wrong(
            args.as_array().is_some_and(|a| a.len() >= 2),
            "Incorrect arguments to \"list_join\" should be: \"list_join\" : [ \" \", [ \"str1\", \
             \"str2\"] ...]",
        ),
        "repeat" => {
            let Value::Object(map) = args else {
                return Err("Arguments to \"repeat\" must be a map".to_owned());
            };
            match map.get("for_each") {
                Some(each) if map.contains_key("template") => wrong(
                    each.is_object(),
                    "The \"for_each\" argument to \"repeat\" must contain a map",
                ),
                _ => Err("'\"repeat\" syntax should be repeat:\\n              template: This is \
                          %var%\\n              for_each:\\n                %var%: [\\'a\\', \
                          \\'b\\', \\'c\\']'"
                    .to_owned()),
            }
        }
        "str_split" => wrong(
            args.is_array(),
            "Incorrect arguments to \"str_split\" should be: \"str_split\" : [ \",\", \
             \"apples,pears\", <index>]",
        ),
        "if" => {
            let arms = args.as_array().map_or(0, Vec::len);
            wrong(
                arms == 3 || arms == 2 && version >= Version::WALLABY,
                "Arguments to \"if\" must be of the form: [condition_name, value_if_true, \
                 value_if_false]",
            )
        }
        "filter" => match args {
            Value::Array(a) if a.len() == 2 => Ok(()),
            Value::Array(a) => Err(format!(
                "\"filter\" expected 2 arguments of the form [values, sequence] but got {} \
                 arguments instead",
                a.len()
            )),
            _ => Err("Argument to \"filter\" must be a list".to_owned()),
        },
        "contains" => wrong(
            args.as_array().is_some_and(|a| a.len() == 2),
            "Arguments to \"contains\" must be of the form: [value1, [value1, value2]]",
        ),
        "make_url" => wrong(args.is_object(), "The arguments to \"make_url\" must be a map"),
        _ => Ok(()),
    }
}

/// Replaces every `if` by the branch its condition chooses, so that the other branch counts for
/// nothing: no dependency, no file, no reference. `None`: leave the surrounding item out.
pub fn choose(scope: &dyn Scope, value: &Value) -> Result<Option<Value>, Invalid> {
    if let Some(("if", args)) = call(scope.version(), value) {
        let arms = args.as_array().map(Vec::as_slice).unwrap_or_default();
        let verdict = condition(scope, arms.first().unwrap_or(&Value::Null))
            .map_err(|m| Invalid::new(m).within(&["if"]))?;
        return match arms.get(if verdict { 1 } else { 2 }) {
            Some(arm) => choose(scope, arm).map_err(|e| e.within(&["if"])),
            None => Ok(None),
        };
    }
    Ok(Some(match value {
        Value::Array(items) => {
            let mut out = Vec::with_capacity(items.len());
            for (index, item) in items.iter().enumerate() {
                out.extend(choose(scope, item).map_err(|e| e.within(&[&index.to_string()]))?);
            }
            Value::Array(out)
        }
        Value::Object(map) => {
            let mut out = Map::new();
            for (key, item) in map {
                if let Some(item) = choose(scope, item).map_err(|e| e.within(&[key]))? {
                    out.insert(key.clone(), item);
                }
            }
            Value::Object(out)
        }
        other => other.clone(),
    }))
}

/// A condition where one is used: a truth, a name, or an inline definition.
pub fn condition(scope: &dyn Scope, value: &Value) -> Result<bool, String> {
    match value {
        Value::Bool(verdict) => Ok(*verdict),
        Value::String(name) => scope.condition(name),
        Value::Object(map) if map.len() == 1 => {
            let (name, args) = map.iter().next().expect("one key");
            let list = || match args {
                Value::Array(list) if list.len() >= 2 => Ok(list),
                Value::Array(_) => {
                    Err(format!("The minimum number of condition arguments to \"{name}\" is 2."))
                }
                _ => Err(format!("Arguments to \"{name}\" must be a list of conditions")),
            };
            match name.as_str() {
                "get_param" => match resolve(scope, value)? {
                    Value::Bool(verdict) => Ok(verdict),
                    Value::String(name) => scope.condition(&name),
                    other => Err(format!("Invalid condition \"{}\"", py_repr(&other))),
                },
                "equals" => match args.as_array().map(Vec::as_slice) {
                    Some([a, b]) => {
                        let (a, b) = (resolve(scope, a)?, resolve(scope, b)?);
                        Ok(combine::equal(&a, &b))
                    }
                    _ => Err("Arguments to \"equals\" must be of the form: [value_1, value_2]"
                        .to_owned()),
                },
                "not" => condition(scope, args).map(|verdict| !verdict),
                "and" => list()?.iter().try_fold(true, |all, c| Ok(condition(scope, c)? && all)),
                "or" => list()?.iter().try_fold(false, |any, c| Ok(condition(scope, c)? || any)),
                "contains" => Ok(truthy(&resolve(scope, value)?)),
                _ => Err(format!("Invalid condition \"{}\"", py_repr(value))),
            }
        }
        other => Err(format!("Invalid condition \"{}\"", py_repr(other))),
    }
}

/// Evaluates a value whose `if`s are chosen.
pub fn resolve(scope: &dyn Scope, value: &Value) -> Result<Value, String> {
    if let Some((name, args)) = call(scope.version(), value) {
        return apply(scope, name, args);
    }
    Ok(match value {
        Value::Array(items) => {
            Value::Array(items.iter().map(|v| resolve(scope, v)).collect::<Result<_, _>>()?)
        }
        Value::Object(map) => {
            let pairs = map.iter().map(|(k, v)| Ok((k.clone(), resolve(scope, v)?)));
            Value::Object(pairs.collect::<Result<_, String>>()?)
        }
        other => other.clone(),
    })
}

fn apply(scope: &dyn Scope, name: &str, args: &Value) -> Result<Value, String> {
    // `if` may reach here inside a condition's own values.
    if name == "if" {
        let chosen = choose(scope, &json!({"if": args})).map_err(|e| e.message)?;
        return resolve(scope, &chosen.unwrap_or(Value::Null));
    }
    let args = resolve(scope, args)?;
    match name {
        "get_param" => match &args {
            Value::String(name) => scope.parameter(name),
            Value::Array(path) if !path.is_empty() => match path[0].as_str() {
                Some(name) => Ok(walk(scope.parameter(name)?, &path[1..]).unwrap_or(json!(""))),
                None => Err("Parameter name in \"get_param\" must be string".to_owned()),
            },
            empty if !truthy(empty) => Err("Function \"get_param\" must have arguments".to_owned()),
            _ => Err("Argument to \"get_param\" must be string or list".to_owned()),
        },
        "get_resource" => match &args {
            Value::String(name) => scope.reference(name),
            other => scope.reference(&py_repr(other)),
        },
        "get_attr" => {
            let list = match &args {
                Value::Array(list) => list.as_slice(),
                one => std::slice::from_ref(one),
            };
            let name = list.first().and_then(Value::as_str).unwrap_or_default();
            match list.get(1) {
                None => scope.attribute(name, None),
                Some(Value::String(attribute)) => scope.attribute_at(name, attribute, &list[2..]),
                Some(other) => Err(format!(
                    "The Referenced Attribute ({name} {}) is incorrect.",
                    py_repr(other)
                )),
            }
        }
        "get_file" => match &args {
            Value::String(file) => scope.file(file).map(Value::String).ok_or_else(|| {
                format!("No content found in the \"files\" section for get_file path: {file}")
            }),
            _ => Err("Argument to \"get_file\" must be a string".to_owned()),
        },
        other => combine::apply(other, args),
    }
}

/// Follows a path into a value; nothing there is nothing, not an error.
pub fn select(value: Value, path: &[Value]) -> Value {
    walk(value, path).unwrap_or(Value::Null)
}

fn walk(value: Value, path: &[Value]) -> Option<Value> {
    path.iter().try_fold(value, |at, key| match (at, key) {
        (Value::Object(mut map), Value::String(key)) => map.remove(key),
        (Value::Object(mut map), Value::Number(key)) => map.remove(&key.to_string()),
        (Value::Array(mut list), key) => {
            let index = match key {
                Value::String(text) => text.parse::<i64>().ok()?,
                other => other.as_i64()?,
            };
            // Python counts backwards from the end.
            let index = if index < 0 { index + i64::try_from(list.len()).ok()? } else { index };
            let index = usize::try_from(index).ok().filter(|i| *i < list.len())?;
            Some(list.swap_remove(index))
        }
        _ => None,
    })
}
