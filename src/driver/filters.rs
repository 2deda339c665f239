//! What templates may do with a value: quoting for every language that we write, and the little
//! arithmetic of networks and versions.
//!
//! In YAML every value passes through `q`; in shell text through `sh`; whole files are set in
//! with `block`. A value that is not there is an error, never an empty place.

use std::fmt::Write;
use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::json;
use tera::{Error, Kwargs, State, Tera, TeraResult, Value};

use super::label::listed;
use super::network::Cidr;
use super::version::KubeVersion;

/// Makes them known to `tera`.
pub fn register(tera: &mut Tera) {
    tera.register_filter("q", |value: Value, _: Kwargs, _: &State| quoted(&value, Syntax::Yaml));
    tera.register_filter("json", |value: Value, _: Kwargs, _: &State| quoted(&value, Syntax::Json));
    tera.register_filter("sh", |value: Value, _: Kwargs, _: &State| shell(&word(&value)?));
    tera.register_filter("envfile", |value: Value, _: Kwargs, _: &State| {
        environment(&word(&value)?)
    });
    tera.register_filter("block", |text: &str, options: Kwargs, _: &State| {
        options.must_get::<usize>("indent").map(|indent| block(text, indent))
    });
    tera.register_filter("b64", |text: &str, _: Kwargs, _: &State| BASE64.encode(text));
    tera.register_filter("gz_b64", |text: &str, _: Kwargs, _: &State| {
        gzipped(text).map(|bytes| BASE64.encode(bytes))
    });
    tera.register_filter("ignition_data_url", |text: &str, _: Kwargs, _: &State| {
        format!("data:;base64,{}", BASE64.encode(text))
    });
    tera.register_filter("cidr_host", |value: Value, options: Kwargs, _: &State| {
        let n = options.must_get::<u64>("n")?;
        let n = u32::try_from(n).map_err(|_| Error::message("n is too large"))?;
        let host = cidr(&value).and_then(|cidr| cidr.host(n));
        Ok::<_, Error>(host.map_or_else(Value::none, |host| Value::from(host.to_string())))
    });
    tera.register_filter("cidr_prefix", |value: Value, _: Kwargs, _: &State| {
        cidr(&value).map_or_else(Value::none, |cidr| Value::from(u64::from(cidr.prefix)))
    });
    tera.register_filter("cidr_overlaps", |value: Value, options: Kwargs, _: &State| {
        let other = options.must_get::<Value>("with")?;
        let both = cidr(&value).zip(cidr(&other));
        Ok::<_, Error>(Value::from(both.is_some_and(|(a, b)| a.overlaps(b))))
    });
    tera.register_filter("cidr_subnets", |value: Value, options: Kwargs, _: &State| {
        let length = options.must_get::<u64>("length")?;
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        Ok::<_, Error>(Value::from(cidr(&value).map_or(0, |cidr| cidr.subnets(length))))
    });
    tera.register_filter("version", |value: Value, options: Kwargs, _: &State| {
        let version = version(&value);
        match options.get::<&str>("part")? {
            Some(_) if version.is_none() => Ok(version),
            Some(part) => version
                .get_from_path(part)
                .cloned()
                .ok_or_else(|| Error::message(format!("a version has no part {part}"))),
            None => Ok::<_, Error>(version),
        }
    });
    tera.register_filter("listed", |value: Value, _: Kwargs, _: &State| {
        Value::from(listed(value.as_str().unwrap_or_default()).map(Value::from).collect::<Vec<_>>())
    });
    tera.register_filter("one_line", |value: Value, _: Kwargs, _: &State| {
        Value::from(!value.as_str().unwrap_or_default().contains(|c: char| c.is_control()))
    });
    tera.register_filter("matches", |value: Value, options: Kwargs, _: &State| {
        let pattern = options.must_get::<&str>("pattern")?;
        let pattern = regex_lite::Regex::new(&format!("^(?:{pattern})$"))
            .map_err(|e| Error::message(format!("pattern: {e}")))?;
        Ok::<_, Error>(Value::from(pattern.is_match(value.as_str().unwrap_or_default())))
    });
    tera.register_filter("yes", |value: Value, _: Kwargs, _: &State| {
        if value.is_truthy() { "yes" } else { "" }.to_owned()
    });
}

/// What a value shall be one value of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Syntax {
    Yaml,
    Json,
}

/// A value as one line: JSON with every character escaped that YAML forbids or that a reader of
/// YAML 1.1 might take for a line's end.
fn quoted(value: &Value, syntax: Syntax) -> TeraResult<String> {
    let mut out = String::new();
    write_quoted(value, syntax, &mut out)?;
    Ok(out)
}

fn write_quoted(value: &Value, syntax: Syntax, out: &mut String) -> TeraResult<()> {
    if let Some(text) = value.as_str() {
        write_text(text, syntax, out);
    } else if let Some(items) = value.as_array() {
        out.push('[');
        for (i, item) in items.iter().enumerate() {
            if i > 0 {
                out.push_str(", ");
            }
            write_quoted(item, syntax, out)?;
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
            write_text(key, syntax, out);
            out.push_str(": ");
            write_quoted(value, syntax, out)?;
        }
        out.push('}');
    } else if value.is_none() {
        out.push_str("null");
    } else if value.is_bool() || value.is_number() {
        let _ = write!(out, "{value}");
    } else if value.is_undefined() {
        return Err(Error::message("there is no such value"));
    } else {
        return Err(Error::message("this value cannot be quoted"));
    }
    Ok(())
}

fn write_text(text: &str, syntax: Syntax, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            ' '..='~' => out.push(c),
            // JSON knows no longer escape than two halves of one; YAML knows no halves.
            _ if u32::from(c) <= 0xffff || syntax == Syntax::Json => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
            _ => {
                let _ = write!(out, "\\U{:08x}", u32::from(c));
            }
        }
    }
    out.push('"');
}

/// Text or a number as a shell would write it; nothing for nothing.
fn word(value: &Value) -> TeraResult<String> {
    match value.as_str() {
        Some(text) => Ok(text.to_owned()),
        None if value.is_none() => Ok(String::new()),
        None if value.is_number() => Ok(value.to_string()),
        None if value.is_undefined() => Err(Error::message("there is no such value")),
        None => Err(Error::message("only a text or a number is one word; see the filter yes")),
    }
}

/// A word of shell text that means exactly itself. Line breaks are refused: the files made
/// this way are also read line by line.
fn shell(text: &str) -> TeraResult<String> {
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

/// Without a time or a name in it: the same text gives the same bytes.
fn gzipped(text: &str) -> TeraResult<Vec<u8>> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    let failed = |e: std::io::Error| Error::message(e);
    out.write_all(text.as_bytes()).map_err(failed)?;
    out.finish().map_err(failed)
}

fn cidr(value: &Value) -> Option<Cidr> {
    value.as_str()?.parse().ok()
}

fn version(value: &Value) -> Value {
    let text = value.as_str().unwrap_or_default();
    let spelled = if text.starts_with('v') { text.to_owned() } else { format!("v{text}") };
    let Ok(version) = spelled.parse::<KubeVersion>() else { return Value::none() };
    Value::from_serializable(&json!({
        "text": version.as_str(),
        "major": 1,
        "minor": version.minor,
        "patch": version.patch,
        "release": version.release(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value as Json;

    fn render(text: &str, context: &Json) -> Result<String, String> {
        let mut tera = Tera::default();
        tera.autoescape_on(Vec::<&str>::new());
        register(&mut tera);
        tera.add_raw_template("t", text).map_err(|e| e.to_string())?;
        let context = tera::Context::from_serialize(context).map_err(|e| e.to_string())?;
        tera.render("t", &context).map_err(|e| format!("{e:?}"))
    }

    #[test]
    fn a_value_that_is_not_there_is_an_error() {
        for text in ["{{ missing | q }}", "{{ a.b | q }}", "{{ a.b | sh }}", "{{ a.b | json }}"] {
            assert!(render(text, &json!({"a": {"c": 1}})).is_err(), "{text}");
        }
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
            fn any_text_comes_back_as_it_was(text in any::<String>()) {
                let given = json!({"v": text});
                let yaml = render("v: {{ v | q }}", &given).unwrap();
                let back: std::collections::BTreeMap<String, String> =
                    serde_saphyr::from_str(&yaml).unwrap();
                prop_assert_eq!(&back["v"], &text);
                let back: Json = serde_json::from_str(&render("{{ v | json }}", &given).unwrap())?;
                prop_assert_eq!(back.as_str(), Some(text.as_str()));
                let coded = BASE64.decode(render("{{ v | b64 }}", &given).unwrap())?;
                prop_assert_eq!(coded, text.as_bytes());
            }
        }
    }

    #[test]
    fn shell_words_mean_themselves() {
        assert_eq!(shell("it's $(x) `y`").unwrap(), r"'it'\''s $(x) `y`'");
        assert!(shell("a\nb").is_err());
        let given = json!({"n": 3, "nothing": null, "yes": true});
        let words = "{{ n | sh }} {{ nothing | sh }} {{ yes | yes | sh }} {{ nothing | yes | sh }}";
        assert_eq!(render(words, &given).unwrap(), "'3' '' 'yes' ''");
        assert!(render("{{ yes | sh }}", &given).is_err());
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

    #[test]
    fn gzip_gives_the_same_bytes_and_the_text_back() {
        let text = "#!/bin/sh\n".repeat(100);
        let (one, other) = (gzipped(&text).unwrap(), gzipped(&text).unwrap());
        assert!(one == other && one.len() < 100);
        let mut back = String::new();
        let mut reader = flate2::read::GzDecoder::new(one.as_slice());
        std::io::Read::read_to_string(&mut reader, &mut back).unwrap();
        assert_eq!(back, text);
    }

    #[test]
    fn networks_versions_and_lists() {
        let given = json!({
            "net": "10.0.0.0/16", "six": "::/64", "v": "1.31.4-x", "bad": "latest", "none": null,
            "hosts": " a, b,,", "text": "a\nb",
        });
        for (expression, result) in [
            ("net | cidr_host(n=10)", "\"10.0.0.10\""),
            ("six | cidr_host(n=1)", "null"),
            ("net | cidr_prefix", "16"),
            ("none | cidr_prefix", "null"),
            ("net | cidr_overlaps(with=\"10.0.3.0/24\")", "true"),
            ("net | cidr_overlaps(with=none)", "false"),
            ("net | cidr_subnets(length=24)", "256"),
            ("v | version(part=\"minor\")", "31"),
            ("v | version(part=\"release\")", "\"v1.31.4\""),
            ("v | version(part=\"text\")", "\"v1.31.4-x\""),
            ("bad | version(part=\"minor\")", "null"),
            ("bad | version", "null"),
            ("none | version", "null"),
            ("hosts | listed", "[\"a\", \"b\"]"),
            ("none | listed", "[]"),
            ("text | one_line", "false"),
            ("v | matches(pattern=\"[0-9.]+-x\")", "true"),
            ("v | matches(pattern=\"[0-9.]+\")", "false"),
        ] {
            assert_eq!(render(&format!("{{{{ ({expression}) | q }}}}"), &given).unwrap(), result);
        }
    }
}
