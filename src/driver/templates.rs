//! The compiled templates of one driver: its files, and the expressions of its manifest.
//!
//! A variable that is not there is an error, never an empty place, and every error knows its
//! file and line. No template reaches a file, the network or the environment.

use std::collections::{BTreeMap, HashMap};
use std::error::Error as _;
use std::fmt::Write;
use std::io;

use serde_json::Value as Json;
use tera::{Context, Error, ErrorKind, Kwargs, State, Tera};

use super::DriverError;
use super::directory::{Directory, LARGEST};
use super::expression::{Expression, Form};
use super::filters;
use super::parts::Lines;

/// What names of templates end in.
const SUFFIX: &str = ".tera";

/// Compiled once for each digest of a directory.
pub struct Templates {
    driver: String,
    tera: Tera,
    /// Where in the manifest and its parts an expression's first line stands.
    lines: HashMap<String, u32>,
    places: Lines,
    /// The included directories that templates are from.
    origins: HashMap<String, String>,
}

impl Templates {
    /// Compiles the directory's templates, and `expressions` by the names they will be asked by;
    /// `places` tells where in the manifest those stand.
    pub fn new<'e>(
        driver: &str,
        places: &Lines,
        directory: &Directory,
        expressions: impl IntoIterator<Item = (String, &'e Expression)>,
    ) -> Result<Self, DriverError> {
        let mut tera = Tera::default();
        // Nothing here is HTML, and a suffix must not decide what is escaped.
        tera.autoescape_on(Vec::<&str>::new());
        filters::register(&mut tera);
        let mut sources = Vec::new();
        let mut plain = BTreeMap::new();
        let mut origins = HashMap::new();
        for (path, text) in directory.files() {
            if let Some(origin) = directory.origin(path) {
                origins.insert(path.to_owned(), origin.to_owned());
            }
            match path.ends_with(SUFFIX) {
                true => sources.push((path.to_owned(), text.to_owned())),
                false => drop(plain.insert(path.to_owned(), text.to_owned())),
            }
        }
        tera.register_function("file", move |options: Kwargs, _: &State| {
            let name = options.must_get::<&str>("name")?;
            let missing = || Error::message(format!("the directory has no file {name}"));
            plain.get(name).cloned().ok_or_else(missing)
        });
        let mut lines = HashMap::new();
        for (name, expression) in expressions {
            let source = match expression.form {
                Form::Template => expression.text.clone(),
                Form::Bare => format!("{{{{ ({}) | json }}}}", expression.text),
            };
            lines.insert(name.clone(), expression.line);
            sources.push((name, source));
        }
        let places = places.clone();
        let mut templates = Self { driver: driver.to_owned(), tera, lines, places, origins };
        let compiled = templates.tera.add_raw_templates(sources);
        compiled.map_err(|e| templates.fault("", &e))?;
        Ok(templates)
    }

    /// The text of a template.
    pub fn render(&self, name: &str, context: &Context) -> Result<String, DriverError> {
        let mut out = Limited(Vec::new());
        self.tera.render_to(name, context, &mut out).map_err(|e| self.fault(name, &e))?;
        String::from_utf8(out.0).map_err(|e| self.error(name, None, e.to_string()))
    }

    /// The value of an expression of the manifest.
    pub fn value(
        &self,
        name: &str,
        expression: &Expression,
        context: &Context,
    ) -> Result<Json, DriverError> {
        let text = self.render(name, context)?;
        let wrong = |e: &dyn std::fmt::Display| self.error(name, None, format!("{e}"));
        match expression.form {
            // Written by ourselves.
            Form::Bare => serde_json::from_str(&text).map_err(|e| wrong(&e)),
            Form::Template if text.trim().is_empty() => Ok(Json::Null),
            Form::Template => serde_saphyr::from_str(&text).map_err(|e| {
                wrong(&format_args!("its output is not YAML: {}", e.without_snippet()))
            }),
        }
    }

    /// Whether an expression's value counts as true.
    pub fn holds(
        &self,
        name: &str,
        expression: &Expression,
        context: &Context,
    ) -> Result<bool, DriverError> {
        Ok(match self.value(name, expression, context)? {
            Json::Null | Json::Bool(false) => false,
            Json::Number(n) => n.as_f64() != Some(0.0),
            Json::String(text) => !text.is_empty(),
            Json::Array(items) => !items.is_empty(),
            Json::Object(map) => !map.is_empty(),
            Json::Bool(true) => true,
        })
    }

    /// An error in the template `name`, at a line of it if that is known.
    pub fn error(&self, name: &str, line: Option<u32>, reason: String) -> DriverError {
        let driver = self.driver.clone();
        match self.lines.get(name) {
            Some(first) => {
                // A block's text begins below the line that announces it.
                let (file, line) = self.places.place(first + line.unwrap_or(1) - 1);
                let reason = format!("{name}: {reason}");
                DriverError::Template { driver, file: file.to_owned(), line: Some(line), reason }
            }
            None => {
                let reason = match self.origins.get(name) {
                    Some(origin) => format!("{reason} (the file is included from {origin})"),
                    None => reason,
                };
                DriverError::Template { driver, file: name.to_owned(), line, reason }
            }
        }
    }

    fn fault(&self, name: &str, error: &Error) -> DriverError {
        let (name, line, mut reason) = match error.kind() {
            ErrorKind::SyntaxError(report) | ErrorKind::RenderingError(report) => {
                let line = u32::try_from(report.span().start_line).ok();
                (report.filename().to_owned(), line, report.message().to_owned())
            }
            ErrorKind::Io(_) => {
                (name.to_owned(), None, format!("what it gives is larger than {LARGEST} bytes"))
            }
            other => {
                placed(&other.to_string()).unwrap_or((name.to_owned(), None, other.to_string()))
            }
        };
        let mut source = error.source();
        while let Some(cause) = source {
            let _ = write!(reason, ": {cause}");
            source = cause.source();
        }
        self.error(&name, line, reason)
    }
}

/// What Tera says in prose of a place: "error: REASON\n --> FILE:LINE:COLUMN\n …".
fn placed(text: &str) -> Option<(String, Option<u32>, String)> {
    let (reason, place) = text.split_once(" --> ")?;
    let mut place = place.lines().next()?.rsplitn(3, ':').skip(1);
    let (line, file) = (place.next()?.parse().ok()?, place.next()?);
    let reason = reason.trim().trim_start_matches("error: ");
    Some((file.to_owned(), Some(line), reason.to_owned()))
}

/// Takes what fits and refuses the rest: a loop in a template must not eat the memory.
struct Limited(Vec<u8>);

impl io::Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > LARGEST {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn templates(
        files: &[(&str, &str)],
        expressions: &[(&str, &str)],
    ) -> Result<Templates, String> {
        let files = files.iter().map(|(p, t)| ((*p).to_owned(), (*t).to_owned()));
        let directory = Directory::new("d", files).unwrap();
        let expressions: Vec<(String, Expression)> = expressions
            .iter()
            .map(|(name, text)| ((*name).to_owned(), Expression::written(text, 40)))
            .collect();
        let places = Lines::default();
        Templates::new("d", &places, &directory, expressions.iter().map(|(n, e)| (n.clone(), e)))
            .map_err(|e| e.to_string())
    }

    fn rendered(text: &str) -> Result<String, String> {
        let context = Context::from_serialize(&json!({"name": "{{ 7 * 7 }}", "n": 3})).unwrap();
        templates(&[("t.tera", text), ("plain", "p{{ n }}\n")], &[])?
            .render("t.tera", &context)
            .map_err(|e| e.to_string())
    }

    #[test]
    fn errors_name_file_and_line() {
        for (text, said) in [
            ("a\n{{ missing }}", "driver d: t.tera:2: "),
            ("a\nb\n{{ name | sh | nofilter }}", "driver d: t.tera:3: "),
            ("{% if %}", "driver d: t.tera:1: "),
            ("\n{{ throw(message='no') }}", "driver d: t.tera:2: "),
            ("\n\n{{ file(name='none') }}", "driver d: t.tera:3: "),
        ] {
            let error = rendered(text).unwrap_err();
            assert!(error.starts_with(said), "{error}");
        }
        let found = templates(&[], &[("values.x", "1 +")]).err().unwrap();
        assert!(found.starts_with("driver d: driver.yaml:40: "), "{found}");
    }

    #[test]
    fn what_a_tenant_writes_is_never_evaluated() {
        assert_eq!(rendered("{{ name }}").unwrap(), "{{ 7 * 7 }}");
        assert_eq!(rendered("{{ file(name='plain') }}").unwrap(), "p{{ n }}\n");
    }

    #[test]
    fn a_loop_without_end_is_stopped() {
        let text = "{% for a in range(end=5000) %}{% for b in range(end=5000) %}0123456789\
                    {% endfor %}{% endfor %}";
        let said = rendered(text).unwrap_err();
        assert!(said.contains("larger than 1048576 bytes"), "{said}");
    }

    #[test]
    fn expressions_have_values() {
        let all = [("a", "n + 1"), ("b", "[n, name]"), ("c", "- {{ n }}\n- x: {{ name | q }}\n")];
        let templates = templates(&[], &all).unwrap();
        let context = Context::from_serialize(&json!({"name": "ä😀", "n": 3})).unwrap();
        let value = |name: &str, text: &str| {
            templates.value(name, &Expression::written(text, 1), &context).unwrap()
        };
        assert_eq!(value("a", all[0].1), json!(4));
        assert_eq!(value("b", all[1].1), json!([3, "ä😀"]));
        assert_eq!(value("c", all[2].1), json!([3, {"x": "ä😀"}]));
    }
}
