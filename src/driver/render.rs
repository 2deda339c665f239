//! Templates: Tera with no way to leave a value unquoted by accident.
//!
//! A variable that is not there is an error, never an empty place. In YAML every value passes
//! through `q`; in shell text through `sh`; whole files are set in with `block`.

use std::fmt::Write;

use serde::Serialize;
use tera::{Context, Error, Kwargs, State, TeraResult, Value};

use super::DriverError;

/// The templates of one driver, compiled once.
pub struct Templates {
    driver: &'static str,
    tera: tera::Tera,
}

impl Templates {
    /// Compiles `files` of name and text. Names end in what is rendered, such as `.yaml`.
    pub fn new(
        driver: &'static str,
        files: &[(&'static str, &'static str)],
    ) -> Result<Self, DriverError> {
        let mut tera = tera::Tera::default();
        // Nothing here is HTML, and a suffix must not decide what is escaped.
        tera.autoescape_on(Vec::<&str>::new());
        tera.register_filter("q", |value: Value, _: Kwargs, _: &State| quoted(&value));
        tera.register_filter("sh", |text: &str, _: Kwargs, _: &State| shell(text));
        tera.register_filter("envfile", |text: &str, _: Kwargs, _: &State| environment(text));
        tera.register_filter("block", |text: &str, options: Kwargs, _: &State| {
            options.must_get::<usize>("indent").map(|indent| block(text, indent))
        });
        let error = |e: Error| template_error(driver, "templates", &e);
        tera.add_raw_templates(files.iter().copied()).map_err(error)?;
        Ok(Self { driver, tera })
    }

    pub fn render(&self, file: &str, context: &impl Serialize) -> Result<String, DriverError> {
        let error = |e: Error| template_error(self.driver, file, &e);
        let context = Context::from_serialize(context).map_err(error)?;
        // Tera takes an undefined variable in a condition for false; we do not.
        let mut used: Vec<&str> =
            self.tera.get_template_variables(file).map_err(error)?.into_iter().collect();
        used.sort_unstable();
        if let Some(missing) = used.into_iter().find(|name| !context.contains_key(name)) {
            return Err(error(Error::message(format!("variable {missing} is not there"))));
        }
        self.tera.render(file, &context).map_err(error)
    }
}

fn template_error(driver: &str, file: &str, error: &Error) -> DriverError {
    let mut reason = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let _ = write!(reason, ": {cause}");
        source = cause.source();
    }
    DriverError::Template { driver: driver.to_owned(), file: file.to_owned(), reason }
}

/// A value as one line of YAML: JSON with every character escaped that YAML forbids or that
/// a reader of YAML 1.1 might take for a line's end.
pub fn quoted(value: &Value) -> TeraResult<String> {
    let mut out = String::new();
    write_quoted(value, &mut out)?;
    Ok(out)
}

fn write_quoted(value: &Value, out: &mut String) -> TeraResult<()> {
    if let Some(text) = value.as_str() {
        write_text(text, out);
    } else if let Some(items) = value.as_array() {
        out.push('[');
        for (i, item) in items.iter().enumerate() {
            if i > 0 {
                out.push_str(", ");
            }
            write_quoted(item, out)?;
        }
        out.push(']');
    } else if let Some(map) = value.as_map() {
        // The map has no order of its own, and the same plan must render the same bytes.
        let mut entries: Vec<(String, &Value)> =
            map.iter().map(|(key, value)| (key.to_string(), value)).collect();
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        out.push('{');
        for (i, (key, value)) in entries.iter().enumerate() {
            if i > 0 {
                out.push_str(", ");
            }
            write_text(key, out);
            out.push_str(": ");
            write_quoted(value, out)?;
        }
        out.push('}');
    } else if value.is_none() {
        out.push_str("null");
    } else if value.is_bool() || value.is_number() {
        let _ = write!(out, "{value}");
    } else {
        return Err(Error::message("this value cannot be quoted"));
    }
    Ok(())
}

fn write_text(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            ' '..='~' => out.push(c),
            _ if u32::from(c) <= 0xffff => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            _ => {
                let _ = write!(out, "\\U{:08x}", u32::from(c));
            }
        }
    }
    out.push('"');
}

/// A word of shell text that means exactly itself. Line breaks are refused: the files made
/// this way are also read line by line.
pub fn shell(text: &str) -> TeraResult<String> {
    if text.contains(|c: char| c.is_control()) {
        return Err(Error::message("a line break or control character in a shell word"));
    }
    Ok(format!("'{}'", text.replace('\'', r"'\''")))
}

/// A value in a file that systemd reads as an environment.
fn environment(text: &str) -> TeraResult<String> {
    if text.contains(|c: char| c.is_control()) {
        return Err(Error::message("a line break or control character in an environment"));
    }
    let mut out = String::from('"');
    for c in text.chars() {
        if matches!(c, '"' | '\\' | '$' | '`') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
    Ok(out)
}

/// A file's text set in by `indent` spaces, for a YAML block scalar.
fn block(text: &str, indent: usize) -> String {
    let pad = " ".repeat(indent);
    let mut out = String::with_capacity(text.len() + text.lines().count() * indent);
    for line in text.lines() {
        if !line.is_empty() {
            out.push_str(&pad);
            out.push_str(line);
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn render(text: &'static str, context: &serde_json::Value) -> Result<String, DriverError> {
        Templates::new("test", &[("t.yaml", text)])?.render("t.yaml", context)
    }

    #[test]
    fn a_variable_that_is_not_there_is_an_error_that_names_it() {
        let Err(DriverError::Template { driver, file, reason }) =
            render("a: {{ missing | q }}", &json!({}))
        else {
            panic!("rendered an undefined variable")
        };
        assert_eq!((driver.as_str(), file.as_str()), ("test", "t.yaml"));
        assert!(reason.contains("missing"), "{reason}");
        assert!(render("{% if missing %}x{% endif %}", &json!({})).is_err(), "in a condition too");
        assert!(render("{{ a | nofilter }}", &json!({"a": 1})).is_err());
    }

    #[test]
    fn maps_keep_one_order() {
        let map: serde_json::Map<_, _> = (0..50).map(|i| (format!("k{i:02}"), json!(i))).collect();
        let (a, b) = (json!({"m": map}), json!({"m": map.clone()}));
        assert_eq!(render("{{ m | q }}", &a), render("{{ m | q }}", &b));
        assert!(render("{{ m | q }}", &a).unwrap().starts_with(r#"{"k00": 0, "k01": 1"#));
    }

    #[cfg(feature = "lab")]
    mod hostile {
        use super::*;
        use proptest::prelude::*;

        proptest! {
            #[test]
            fn any_text_comes_back_from_yaml_as_it_was(text in any::<String>()) {
                let yaml = render("v: {{ v | q }}", &json!({"v": text})).unwrap();
                let back: std::collections::BTreeMap<String, String> =
                    serde_saphyr::from_str(&yaml).unwrap();
                prop_assert_eq!(&back["v"], &text);
            }
        }
    }

    #[test]
    fn shell_words_mean_themselves() {
        assert_eq!(shell("it's $(x) `y`").unwrap(), r"'it'\''s $(x) `y`'");
        assert!(shell("a\nb").is_err());
    }

    #[test]
    fn environment_values_mean_themselves() {
        assert_eq!(environment(r#"a "b" $c \ `d` 'e'"#).unwrap(), r#""a \"b\" \$c \\ \`d\` 'e'""#);
        assert!(environment("a\nb").is_err());
    }

    #[test]
    fn blocks_are_set_in() {
        assert_eq!(block("a\n\n b\n", 2), "  a\n\n   b\n");
    }
}
