//! Whether what was rendered is what its name says: YAML, JSON, user data of some kind.

use serde_json::Value;

use super::manifest::Format;

/// Distributions whose images read Ignition.
const IGNITION: &[&str] = &["flatcar", "fedora-coreos"];

/// What is wrong with a rendered text, and in which line of it.
pub type Wrong = (Option<u32>, String);

/// A HOT or another single document, whose keys are each there once.
pub fn yaml(text: &str) -> Result<Value, Wrong> {
    let options = serde_saphyr::options! {
        duplicate_keys: serde_saphyr::options::DuplicateKeyPolicy::Error,
    };
    serde_saphyr::from_str_with_options(text, options).map_err(complaint)
}

fn complaint(error: serde_saphyr::Error) -> Wrong {
    let line = error.location().and_then(|at| u32::try_from(at.line()).ok());
    (line, format!("it is not YAML: {}", error.without_snippet()))
}

/// A file, by what its name ends in.
pub fn file(path: &str, text: &str) -> Result<(), Wrong> {
    if path.ends_with(".yaml") || path.ends_with(".yml") {
        serde_saphyr::from_multiple::<Value>(text).map(|_| ()).map_err(complaint)
    } else if path.ends_with(".json") {
        json(text).map(|_| ())
    } else {
        Ok(())
    }
}

fn json(text: &str) -> Result<Value, Wrong> {
    serde_json::from_str(text)
        .map_err(|e| (u32::try_from(e.line()).ok(), format!("it is not JSON: {e}")))
}

/// Which reader the user data is for.
pub fn format_for(format: Format, os_distro: &str) -> Format {
    match format {
        Format::Auto if IGNITION.contains(&os_distro) => Format::Ignition,
        Format::Auto => Format::CloudConfig,
        said => said,
    }
}

/// User data for a reader.
pub fn user_data(format: Format, text: &str) -> Result<(), Wrong> {
    match format {
        Format::CloudConfig | Format::Auto => {
            if !text.starts_with("#cloud-config\n") {
                return Err((Some(1), "its first line is not #cloud-config".to_owned()));
            }
            match yaml(text)? {
                Value::Object(_) => Ok(()),
                _ => Err((None, "it is no map".to_owned())),
            }
        }
        Format::Ignition => match json(text)?["ignition"]["version"].is_string() {
            true => Ok(()),
            false => Err((None, "it has no ignition.version".to_owned())),
        },
        Format::Raw => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_what_it_says_is_named_with_its_line() {
        let line = |checked: Result<(), Wrong>| checked.map_err(|(line, _)| line);
        assert_eq!(file("a.yaml", "a: 1\n---\nb: [1]\n"), Ok(()));
        assert!(line(file("a.yaml", "a: 1\nb: [\n")).is_err());
        assert_eq!(line(file("a.json", "{\n\"a\": }")), Err(Some(2)));
        assert_eq!(file("a.sh", "}{"), Ok(()));
        assert_eq!(yaml("a: 1\nb: 2\na: 3\n").unwrap_err().0, Some(3), "a name twice");
        let auto = |distro| format_for(Format::Auto, distro);
        assert_eq!((auto("flatcar"), auto("ubuntu")), (Format::Ignition, Format::CloudConfig));
        assert_eq!(user_data(Format::CloudConfig, "#cloud-config\na: b\n"), Ok(()));
        assert!(user_data(Format::CloudConfig, "a: b\n").is_err());
        assert!(user_data(Format::CloudConfig, "#cloud-config\n- a\n").is_err());
        assert_eq!(user_data(Format::Ignition, r#"{"ignition": {"version": "3.3.0"}}"#), Ok(()));
        assert!(user_data(Format::Ignition, "{}").is_err());
        assert_eq!(user_data(Format::Raw, "\u{1}"), Ok(()));
    }
}
