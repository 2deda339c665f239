//! Expressions of a manifest: Tera without braces, and where they stand.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};
use serde_saphyr::Spanned;

/// What an expression's text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One expression, without braces.
    Bare,
    /// A template with braces of its own.
    Template,
}

#[derive(Clone, Debug)]
pub struct Expression {
    pub text: String,
    pub form: Form,
    /// In the manifest.
    pub line: u32,
}

impl Expression {
    /// What was written at `line` of the manifest.
    pub fn written(written: &str, line: u32) -> Self {
        let text = written.trim();
        let inner = text.strip_prefix("{{").and_then(|t| t.strip_suffix("}}"));
        let inner = inner.filter(|inner| !inner.contains("{{") && !inner.contains("{%"));
        let (text, form) = match inner {
            Some(inner) => (inner.trim(), Form::Bare),
            None if text.contains("{{") || text.contains("{%") => (written, Form::Template),
            None => (text, Form::Bare),
        };
        Self { text: text.to_owned(), form, line }
    }
}

impl<'de> Deserialize<'de> for Expression {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Spanned { value: Scalar(text), referenced, .. } = Spanned::deserialize(deserializer)?;
        Ok(Self::written(&text, u32::try_from(referenced.line()).unwrap_or_default()))
    }
}

/// A text, or a number or switch as it would be written.
#[derive(Clone, Debug)]
pub struct Scalar(pub String);

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl Visitor<'_> for Any {
            type Value = Scalar;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, a number, true or false")
            }

            fn visit_bool<E: Error>(self, value: bool) -> Result<Scalar, E> {
                Ok(Scalar(value.to_string()))
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Scalar, E> {
                Ok(Scalar(value.to_string()))
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Scalar, E> {
                Ok(Scalar(value.to_string()))
            }

            fn visit_f64<E: Error>(self, value: f64) -> Result<Scalar, E> {
                Ok(Scalar(value.to_string()))
            }

            fn visit_str<E: Error>(self, value: &str) -> Result<Scalar, E> {
                Ok(Scalar(value.to_owned()))
            }
        }

        deserializer.deserialize_any(Any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn braces_around_the_whole_mean_nothing() {
        for (written, text, form) in [
            ("labels.a > 3", "labels.a > 3", Form::Bare),
            (" {{ labels.a }} ", "labels.a", Form::Bare),
            ("{{ a }}-{{ b }}", "{{ a }}-{{ b }}", Form::Template),
            ("{% if a %}1{% endif %}", "{% if a %}1{% endif %}", Form::Template),
        ] {
            let expression = Expression::written(written, 1);
            assert_eq!((expression.text.as_str(), expression.form), (text, form), "{written}");
        }
    }
}
