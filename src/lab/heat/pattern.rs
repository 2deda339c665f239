//! Regular expressions of `allowed_pattern`, matched from the start of the text, as Python's
//! `re.match` does. Look-around and back-references are refused.

use regex_lite::{Regex, RegexBuilder};

/// A compiled pattern.
#[derive(Clone, Debug)]
pub struct Pattern {
    source: String,
    regex: Regex,
}

/// Bytes that a compiled pattern may take.
const MOST_BYTES: usize = 1 << 20;

impl Pattern {
    pub fn new(source: &str) -> Result<Self, String> {
        let compiled = |text: &str| {
            RegexBuilder::new(text).size_limit(MOST_BYTES).build().map_err(|e| e.to_string())
        };
        // By itself first: `a)(b` makes sense only inside of another pair of parentheses.
        compiled(source)?;
        Ok(Self { source: source.to_owned(), regex: compiled(&format!("^(?:{source})"))? })
    }

    pub fn source(&self) -> &str {
        &self.source
    }

    pub fn matches(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(pattern: &str, text: &str) -> bool {
        Pattern::new(pattern).unwrap().matches(text)
    }

    #[test]
    fn patterns_of_templates_match_as_in_python() {
        assert!(fits("^v1\\.[0-9]+\\.[0-9]+", "v1.33.1"));
        assert!(!fits("^v1\\.[0-9]+$", "v1.33.1"));
        assert!(fits("^$|.*/$", "") && fits("^$|.*/$", "a/b/") && !fits("^$|.*/$", "a/b"));
        assert!(fits("[a-zA-Z][a-zA-Z0-9_-]{2,}", "ab-1") && !fits("[a-z]{3}", "ab"));
        assert!(fits("(?:ab|a)*?c", "aababc") && fits("[^\\s]+", "x") && !fits("\\d+", "x1"));
        assert!(!fits("b", "ab") && !fits("a|b", "cb"), "from the start of the text");
        for wrong in ["(", "[a", "*", "a)", "a)(b", "(?=x)", "\\"] {
            assert!(Pattern::new(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_expensive_pattern_is_as_cheap_as_any() {
        assert!(!fits("(a*)*b", &"a".repeat(200)));
        assert!(fits("(?:a|b)*", &"ab".repeat(3000)));
    }
}
