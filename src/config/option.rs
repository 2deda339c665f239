//! The one table of options: every key, what form its value has, and what it is now.
//!
//! It is drawn from the sections themselves, so whatever is added there can be given in the
//! environment and on the command line, is shown, and is offered when a key is misspelt.

use std::net::SocketAddr;
use std::path::PathBuf;

use toml::Value;

use super::sections::{LogFormat, Profile};
use super::value::{Every, Password, Span};
use crate::base::secret::Secret;
use crate::model::certificate::KeyAlgorithm;
use crate::model::first_contact::FirstContact;
use crate::model::labels::UnknownLabels;

/// How a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Text,
    Number,
    Switch,
    List,
    Secret,
}

/// What an option is set to.
#[derive(Clone, Debug, PartialEq)]
pub enum Setting {
    /// It has no value and needs none.
    Nothing,
    Plain(Value),
    Hidden(Secret<String>),
}

/// One option.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// Such as `api.listen`.
    pub key: String,
    pub form: Form,
    pub setting: Setting,
}

impl Item {
    pub fn is_secret(&self) -> bool {
        matches!(self.form, Form::Secret)
    }

    /// Such as `MAGNUMD_API_LISTEN`.
    pub fn variable(&self) -> String {
        format!("MAGNUMD_{}", self.key.replace('.', "_").to_uppercase())
    }
}

/// A section, or an option: whatever has a place in the table.
pub trait Listed {
    fn list(&self, key: &str, items: &mut Vec<Item>);
}

/// A value of an option.
trait Leaf {
    const FORM: Form;

    fn setting(&self) -> Setting;
}

impl<T: Leaf> Listed for T {
    fn list(&self, key: &str, items: &mut Vec<Item>) {
        items.push(Item { key: key.to_owned(), form: T::FORM, setting: self.setting() });
    }
}

impl<T: Leaf> Leaf for Option<T> {
    const FORM: Form = T::FORM;

    fn setting(&self) -> Setting {
        self.as_ref().map_or(Setting::Nothing, Leaf::setting)
    }
}

macro_rules! leaf {
    ($($kind:ty, $form:ident, |$value:ident| $shown:expr;)*) => {
        $(impl Leaf for $kind {
            const FORM: Form = Form::$form;

            fn setting(&self) -> Setting {
                let $value = self;
                Setting::Plain(Value::from($shown))
            }
        })*
    };
}

leaf! {
    String, Text, |v| v.clone();
    SocketAddr, Text, |v| v.to_string();
    PathBuf, Text, |v| v.display().to_string();
    Span, Text, |v| v.to_string();
    Every, Text, |v| v.0.map_or_else(|| "0s".to_owned(), |length| Span(length).to_string());
    LogFormat, Text, |v| v.as_str();
    Profile, Text, |v| v.as_str();
    UnknownLabels, Text, |v| v.as_str();
    KeyAlgorithm, Text, |v| v.as_str();
    FirstContact, Text, |v| v.as_str();
    bool, Switch, |v| *v;
    u32, Number, |v| i64::from(*v);
    usize, Number, |v| i64::try_from(*v).unwrap_or(i64::MAX);
    Vec<String>, List, |v| v.clone();
    Vec<PathBuf>, List, |v| v.iter().map(|p| p.display().to_string()).collect::<Vec<_>>();
}

impl Leaf for Password {
    const FORM: Form = Form::Secret;

    fn setting(&self) -> Setting {
        match self.is_given() {
            true => Setting::Hidden(self.secret()),
            false => Setting::Nothing,
        }
    }
}

impl Form {
    /// The value that `text` means, as an environment or an ini file has nothing but text.
    pub fn read(self, text: &str) -> Result<Value, String> {
        match self {
            Self::Text | Self::Secret => Ok(Value::from(text)),
            Self::Number => text
                .trim()
                .parse::<i64>()
                .map(Value::from)
                .map_err(|_| format!("must be a whole number, not '{text}'")),
            Self::Switch => match text.trim().to_ascii_lowercase().as_str() {
                "true" | "yes" | "on" | "1" => Ok(Value::from(true)),
                "false" | "no" | "off" | "0" => Ok(Value::from(false)),
                _ => Err(format!("must be true or false, not '{text}'")),
            },
            Self::List if text.trim_start().starts_with('[') => {
                let line = format!("list = {text}");
                let read = line.parse::<toml::Table>().ok().and_then(|mut t| t.remove("list"));
                read.ok_or_else(|| format!("must be a list such as [\"a\", \"b\"], not '{text}'"))
            }
            Self::List => {
                let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
                Ok(Value::from(parts.collect::<Vec<_>>()))
            }
        }
    }
}

/// A value as TOML writes it.
pub fn written(value: &Value) -> String {
    match value {
        // Every JSON string is a TOML string.
        Value::String(text) => serde_json::Value::from(text.as_str()).to_string(),
        Value::Array(list) => {
            format!("[{}]", list.iter().map(written).collect::<Vec<_>>().join(", "))
        }
        Value::Integer(number) => number.to_string(),
        Value::Boolean(switch) => switch.to_string(),
        // Options have no other values.
        other => format!("{other:?}"),
    }
}

/// The likest of `known`, if it is like enough to be meant.
pub fn nearest<'k>(unknown: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    known
        .into_iter()
        .map(|known| (strsim::jaro_winkler(unknown, known), known))
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .filter(|(likeness, _)| *likeness > 0.75)
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::config::Config;

    #[test]
    fn every_option_has_a_variable_of_its_own() {
        let items = Config::default().items();
        assert!(items.len() > 60, "{}", items.len());
        let variables: HashSet<String> = items.iter().map(Item::variable).collect();
        assert_eq!(variables.len(), items.len());
        assert!(variables.contains("MAGNUMD_API_TLS_CERT"));
        let listen = items.iter().find(|i| i.key == "api.listen").unwrap();
        assert_eq!(listen.setting, Setting::Plain(Value::from("0.0.0.0:9511")));
    }

    #[test]
    fn defaults_are_written_as_they_are_read() {
        for item in Config::default().items() {
            let Setting::Plain(value) = item.setting else { continue };
            let text = match &value {
                Value::String(text) => text.clone(),
                other => written(other),
            };
            assert_eq!(item.form.read(&text), Ok(value), "{}", item.key);
        }
    }

    #[test]
    fn text_becomes_what_the_option_wants() {
        assert_eq!(Form::Switch.read("Yes"), Ok(Value::from(true)));
        assert_eq!(Form::List.read("a, b,"), Ok(Value::from(vec!["a", "b"])));
        assert_eq!(Form::List.read("[\"a, b\"]"), Ok(Value::from(vec!["a, b"])));
        assert!(Form::List.read("[a").unwrap_err().contains("must be a list"));
        assert!(Form::Number.read("many").unwrap_err().contains("whole number, not 'many'"));
        assert!(Form::Switch.read("2").unwrap_err().contains("true or false, not '2'"));
    }
}
