//! Values with a form of their own: spans of time and passwords.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

use crate::base::secret::Secret;

/// A length of time, written as a number and a unit: `"250ms"`, `"30s"`, `"5m"`, `"1h"`, `"7d"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

impl Span {
    pub const fn secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    pub const fn millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    fn parse(text: &str) -> Option<Self> {
        let digits = text.find(|c: char| !c.is_ascii_digit())?;
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().ok()?;
        let millis = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        number.checked_mul(millis).map(Duration::from_millis).map(Self)
    }
}

/// In the largest unit that leaves a whole number.
impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u128, &str); 5] =
            [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s"), (1, "ms")];
        let millis = self.0.as_millis();
        let whole = |&(unit, _): &(u128, &str)| millis != 0 && millis.is_multiple_of(unit);
        let (unit, name) = UNITS.into_iter().find(whole).unwrap_or((1000, "s"));
        write!(f, "{}{name}", millis / unit)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| not_a_length(&text))
    }
}

/// A length of time between two turns of something, or never: zero and less switch it off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Every(pub Option<Duration>);

impl Every {
    pub const fn secs(seconds: u64) -> Self {
        Self(Some(Duration::from_secs(seconds)))
    }
}

impl<'de> Deserialize<'de> for Every {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let (is_negative, length) = match text.strip_prefix('-') {
            Some(length) => (true, length),
            None => (false, text.as_str()),
        };
        let Span(length) = Span::parse(length).ok_or_else(|| not_a_length(&text))?;
        Ok(Self(Some(length).filter(|length| !is_negative && !length.is_zero())))
    }
}

fn not_a_length<E: de::Error>(text: &str) -> E {
    E::custom(format!(
        "'{text}' is not a length of time: a number and one of ms, s, m, h, d, such as \"30s\""
    ))
}

/// A secret given in the file itself or, better, in a file of its own.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(transparent)]
pub struct Password(Option<Secret<String>>);

impl Password {
    /// The text; empty when none was given.
    pub fn expose(&self) -> &str {
        self.0.as_ref().map_or("", |secret| secret.expose())
    }

    pub const fn is_given(&self) -> bool {
        self.0.is_some()
    }

    pub fn secret(&self) -> Secret<String> {
        Secret::new(self.expose().to_owned())
    }

    /// Reads `file`, relative to the configuration's folder, unless the text was given.
    pub(super) fn resolve(
        &mut self,
        file: &Option<PathBuf>,
        base: &Path,
        key: &str,
    ) -> Result<(), (String, String)> {
        let key = key.to_owned();
        match (&self.0, file) {
            (Some(_), Some(_)) => Err((key, "is given as text and as a file; not both".into())),
            (Some(_), None) => Ok(()),
            (None, Some(file)) => {
                let path = base.join(file);
                let text = std::fs::read_to_string(&path)
                    .map_err(|e| (key, format!("cannot be read from {}: {e}", path.display())))?;
                self.0 = Some(Secret::new(text.trim_end_matches(['\r', '\n']).to_owned()));
                Ok(())
            }
            (None, None) => Err((key, "must be set, or its _file".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_numbers_with_units() {
        assert_eq!(Span::parse("250ms"), Some(Span::millis(250)));
        assert_eq!(Span::parse("5m"), Some(Span::secs(300)));
        for shown in ["250ms", "0s", "90s", "5m", "36h", "7d"] {
            assert_eq!(Span::parse(shown).map(|span| span.to_string()).as_deref(), Some(shown));
        }
        for wrong in ["", "5", "m", "-1s", "1.5h", "1w", "99999999999999999999d"] {
            assert_eq!(Span::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn zero_and_less_mean_never() {
        let every = |text: &str| {
            let table: toml::Table = toml::from_str(&format!("x = '{text}'")).unwrap();
            table["x"].clone().try_into::<Every>()
        };
        assert_eq!(every("60s").unwrap(), Every::secs(60));
        for never in ["0s", "-1s", "-60s", "0ms"] {
            assert_eq!(every(never).unwrap(), Every(None), "{never}");
        }
        for wrong in ["", "-", "--1s", "never", "60"] {
            let said = every(wrong).unwrap_err().to_string();
            assert!(said.contains("length of time"), "{said}");
        }
    }
}
