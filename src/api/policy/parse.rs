//! From the text of a rule to its tree.
//!
//! `not` binds tighter than `and`, which binds tighter than `or`; parentheses may touch
//! words; a word that is none of these is a check, `KIND:MATCH`.

use serde_json::Value;

/// Deeper parentheses than anyone writes by hand.
const DEEPEST: usize = 64;

/// A parsed rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    Always,
    Never,
    Not(Box<Check>),
    All(Vec<Check>),
    Any(Vec<Check>),
    /// Another rule, by name.
    Rule(String),
    /// Membership in the caller's roles.
    Role(Pattern),
    /// The caller's attribute, dots walking into maps, against a pattern.
    Attribute {
        name: String,
        pattern: Pattern,
    },
    /// A literal against a pattern.
    Literal {
        text: String,
        pattern: Pattern,
    },
    /// Another service is to be asked, which we do not do: denies.
    Remote(String),
}

/// Text with `%(key)s` places that the target fills; `%%` is a plain `%`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(pub Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    Text(String),
    Key(String),
}

impl Check {
    /// A rule that cannot be understood never allows.
    pub fn parse(text: &str) -> Self {
        Self::try_parse(text).unwrap_or(Self::Never)
    }

    /// A rule from a policy file: text, or the older list of alternatives.
    pub fn of_value(value: &Value) -> Option<Self> {
        match value {
            Value::String(text) => Self::try_parse(text),
            Value::Array(alternatives) => {
                if alternatives.is_empty() {
                    return Some(Self::Always);
                }
                // An empty alternative is none, so that a list of nothing else never allows.
                let is_empty = |value: &&Value| match value {
                    Value::String(check) => check.is_empty(),
                    Value::Array(checks) => checks.is_empty(),
                    _ => false,
                };
                let given = alternatives.iter().filter(|alternative| !is_empty(alternative));
                let any = given.map(|alternative| match alternative {
                    Value::String(check) => leaf(check),
                    Value::Array(checks) => {
                        let all = checks.iter().map(|check| leaf(check.as_str()?));
                        Some(single(all.collect::<Option<_>>()?, Self::All))
                    }
                    _ => None,
                });
                Some(single(any.collect::<Option<_>>()?, Self::Any))
            }
            _ => None,
        }
    }

    fn try_parse(text: &str) -> Option<Self> {
        let tokens = tokens(text);
        if tokens.is_empty() {
            return Some(Self::Always);
        }
        let mut rest = tokens.as_slice();
        let check = any(&mut rest, 0)?;
        rest.is_empty().then_some(check)
    }

    /// Every rule that this one names.
    pub fn named_rules(&self) -> Vec<&str> {
        match self {
            Self::Rule(name) => vec![name],
            _ => self.parts().iter().flat_map(Self::named_rules).collect(),
        }
    }

    /// Whether another service would have to be asked.
    pub fn is_remote(&self) -> bool {
        matches!(self, Self::Remote(_)) || self.parts().iter().any(Self::is_remote)
    }

    fn parts(&self) -> &[Self] {
        match self {
            Self::Not(inner) => std::slice::from_ref(inner),
            Self::All(parts) | Self::Any(parts) => parts,
            _ => &[],
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'t> {
    Open,
    Close,
    And,
    Or,
    Not,
    Check(&'t str),
}

fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut found = Vec::new();
    for word in text.split_whitespace() {
        let inner = word.trim_start_matches('(');
        found.extend(std::iter::repeat_n(Token::Open, word.len() - inner.len()));
        // The parenthesis of `%(key)s` is followed by its `s`, so those at the end are ours.
        let check = inner.trim_end_matches(')');
        match check {
            "" => {}
            _ if check.eq_ignore_ascii_case("and") => found.push(Token::And),
            _ if check.eq_ignore_ascii_case("or") => found.push(Token::Or),
            _ if check.eq_ignore_ascii_case("not") => found.push(Token::Not),
            _ => found.push(Token::Check(check)),
        }
        found.extend(std::iter::repeat_n(Token::Close, inner.len() - check.len()));
    }
    found
}

fn any(rest: &mut &[Token<'_>], depth: usize) -> Option<Check> {
    let mut parts = vec![all(rest, depth)?];
    while take(rest, Token::Or) {
        parts.push(all(rest, depth)?);
    }
    Some(single(parts, Check::Any))
}

fn all(rest: &mut &[Token<'_>], depth: usize) -> Option<Check> {
    let mut parts = vec![one(rest, depth)?];
    while take(rest, Token::And) {
        parts.push(one(rest, depth)?);
    }
    Some(single(parts, Check::All))
}

fn one(rest: &mut &[Token<'_>], depth: usize) -> Option<Check> {
    if depth > DEEPEST {
        return None;
    }
    let (first, after) = rest.split_first()?;
    *rest = after;
    match *first {
        Token::Not => Some(Check::Not(Box::new(one(rest, depth + 1)?))),
        Token::Open => {
            let inner = any(rest, depth + 1)?;
            take(rest, Token::Close).then_some(inner)
        }
        Token::Check(text) => leaf(text),
        Token::Close | Token::And | Token::Or => None,
    }
}

fn take(rest: &mut &[Token<'_>], wanted: Token<'_>) -> bool {
    match rest.split_first() {
        Some((first, after)) if *first == wanted => {
            *rest = after;
            true
        }
        _ => false,
    }
}

fn single(mut parts: Vec<Check>, several: fn(Vec<Check>) -> Check) -> Check {
    match parts.pop() {
        Some(only) if parts.is_empty() => only,
        Some(last) => {
            parts.push(last);
            several(parts)
        }
        None => Check::Never,
    }
}

fn leaf(text: &str) -> Option<Check> {
    match text {
        "@" => return Some(Check::Always),
        "!" => return Some(Check::Never),
        // Text that is no check.
        _ if unquoted(text).is_some() => return None,
        _ => {}
    }
    let (kind, wanted) = text.split_once(':')?;
    Some(match kind {
        "rule" => Check::Rule(wanted.to_owned()),
        "http" | "https" => Check::Remote(text.to_owned()),
        "role" => Check::Role(Pattern::parse(wanted)?),
        _ => {
            let pattern = Pattern::parse(wanted)?;
            match literal(kind) {
                Some(text) => Check::Literal { text, pattern },
                None => Check::Attribute { name: kind.to_owned(), pattern },
            }
        }
    })
}

/// What the left side prints as, where it is a literal of Python and not a name.
fn literal(kind: &str) -> Option<String> {
    if matches!(kind, "True" | "False" | "None") || kind.parse::<i64>().is_ok() {
        return Some(kind.to_owned());
    }
    if let Some(number) = kind.parse::<f64>().ok().filter(|number| number.is_finite()) {
        return Some(format!("{number:?}"));
    }
    unquoted(kind).map(str::to_owned)
}

fn unquoted(text: &str) -> Option<&str> {
    ['\'', '"'].iter().find_map(|quote| text.strip_prefix(*quote)?.strip_suffix(*quote))
}

impl Pattern {
    fn parse(text: &str) -> Option<Self> {
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('%') {
            plain.push_str(before);
            if let Some(behind) = after.strip_prefix('%') {
                plain.push('%');
                rest = behind;
                continue;
            }
            let (key, behind) = after.strip_prefix('(')?.split_once(")s")?;
            if !plain.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut plain)));
            }
            pieces.push(Piece::Key(key.to_owned()));
            rest = behind;
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        Some(Self(pieces))
    }
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    impl fmt::Display for Check {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            let joined = |f: &mut fmt::Formatter<'_>, parts: &[Self], word: &str| {
                for (at, part) in parts.iter().enumerate() {
                    let word = if at == 0 { "" } else { word };
                    match part {
                        Self::All(_) | Self::Any(_) => write!(f, "{word}({part})")?,
                        _ => write!(f, "{word}{part}")?,
                    }
                }
                Ok(())
            };
            match self {
                Self::Always => f.write_str("@"),
                Self::Never => f.write_str("!"),
                Self::Not(inner) => {
                    f.write_str("not ")?;
                    joined(f, std::slice::from_ref(&**inner), "")
                }
                Self::All(parts) => joined(f, parts, " and "),
                Self::Any(parts) => joined(f, parts, " or "),
                Self::Rule(name) => write!(f, "rule:{name}"),
                Self::Role(pattern) => write!(f, "role:{pattern}"),
                Self::Attribute { name, pattern } => write!(f, "{name}:{pattern}"),
                Self::Literal { text, pattern } => write!(f, "'{text}':{pattern}"),
                Self::Remote(text) => f.write_str(text),
            }
        }
    }

    impl fmt::Display for Pattern {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.0.iter().try_for_each(|piece| match piece {
                Piece::Text(text) => f.write_str(&text.replace('%', "%%")),
                Piece::Key(key) => write!(f, "%({key})s"),
            })
        }
    }

    fn pattern() -> impl Strategy<Value = Pattern> {
        let piece = ("[a-zA-Z0-9_%.:/*-]{0,6}", "[a-z_.]{1,8}");
        let last = "[a-zA-Z0-9_%.:/*-]{0,6}";
        (proptest::collection::vec(piece, 0..3), last).prop_map(|(pairs, last)| {
            let pieces =
                pairs.into_iter().flat_map(|(text, key)| [Piece::Text(text), Piece::Key(key)]);
            let pieces = pieces.chain([Piece::Text(last)]);
            Pattern(pieces.filter(|p| *p != Piece::Text(String::new())).collect())
        })
    }

    fn check() -> impl Strategy<Value = Check> {
        let leaf = prop_oneof![
            Just(Check::Always),
            Just(Check::Never),
            "[a-z_:]{1,12}".prop_map(Check::Rule),
            pattern().prop_map(Check::Role),
            ("[a-z]{2,6}_[a-z.]{1,6}", pattern())
                .prop_map(|(name, pattern)| Check::Attribute { name, pattern }),
            ("[a-zA-Z0-9(). _-]{0,6}", pattern()).prop_map(|(text, pattern)| Check::Literal {
                text: text.replace(' ', ""),
                pattern
            }),
            "https?://[a-z.]{1,9}/[a-z]{0,5}".prop_map(Check::Remote),
        ];
        leaf.prop_recursive(5, 40, 4, |inner| {
            let several = proptest::collection::vec(inner.clone(), 2..4);
            prop_oneof![
                inner.prop_map(|check| Check::Not(Box::new(check))),
                several.clone().prop_map(Check::All),
                several.prop_map(Check::Any),
            ]
        })
    }

    proptest! {
        /// Whatever can be written down is read as what was meant, however it is spaced.
        #[test]
        fn what_is_printed_is_parsed_again(check in check(), wide in prop::bool::ANY) {
            let mut text = check.to_string();
            if wide {
                text = text.replace(' ', "\n\t ").replace(" and", " AND");
            }
            prop_assert_eq!(Check::parse(&text), check, "{}", text);
        }

        /// An older list says the same as the words between which it puts nothing.
        #[test]
        fn lists_are_alternatives_of_conjunctions(
            alternatives in proptest::collection::vec(
                proptest::collection::vec("(role|user_id|rule):[a-z]{1,4}", 1..4), 1..4),
        ) {
            let words: Vec<String> = alternatives.iter().map(|all| all.join(" and ")).collect();
            let list = Check::of_value(&json!(alternatives));
            prop_assert_eq!(list, Some(Check::parse(&words.join(" or "))));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,80}") {
            let _ = Check::parse(&text);
        }
    }

    fn role(name: &str) -> Check {
        Check::Role(Pattern::parse(name).unwrap())
    }

    #[test]
    fn operators_bind_as_in_oslo_policy() {
        let table = [
            ("", Check::Always),
            ("@", Check::Always),
            ("!", Check::Never),
            ("role:a", role("a")),
            ("role:a OR role:b", Check::Any(vec![role("a"), role("b")])),
            (
                "role:a or role:b and not role:c",
                Check::Any(vec![
                    role("a"),
                    Check::All(vec![role("b"), Check::Not(Box::new(role("c")))]),
                ]),
            ),
            (
                "(role:a or role:b) and role:c",
                Check::All(vec![Check::Any(vec![role("a"), role("b")]), role("c")]),
            ),
            ("((rule:x))", Check::Rule("x".to_owned())),
        ];
        for (text, check) in table {
            assert_eq!(Check::parse(text), check, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_understood_never_allows() {
        for text in [
            "role",
            "(role:a",
            "role:a)",
            "role:a role:b",
            "and",
            "not",
            "role:a or",
            "x:%(y",
            "x:50%",
            "x:%d",
            "'role:a'",
            "\"role:a\"",
        ] {
            assert_eq!(Check::parse(text), Check::Never, "{text}");
        }
        assert_eq!(Check::parse(&"(".repeat(100_000)), Check::Never);
        assert_eq!(Check::parse(&"not ".repeat(100_000)), Check::Never);
    }

    #[test]
    fn older_lists_are_read_as_oslo_does() {
        let table = [
            (json!([]), Some(Check::Always)),
            (json!([[]]), Some(Check::Never)),
            (json!([""]), Some(Check::Never)),
            (json!([[], ["role:a"]]), Some(role("a"))),
            (
                json!(["role:a", ["role:b", "!"]]),
                Some(Check::Any(vec![role("a"), Check::All(vec![role("b"), Check::Never])])),
            ),
            (json!([["role:a", 5]]), None),
            (json!([{}]), None),
            (json!(null), None),
            (json!(true), None),
            (json!({ "role": "a" }), None),
        ];
        for (value, check) in table {
            assert_eq!(Check::of_value(&value), check, "{value}");
        }
    }

    #[test]
    fn the_left_side_is_a_literal_or_a_name() {
        let key = Pattern(vec![Piece::Key("k".to_owned())]);
        let literal = |text: &str| Check::Literal { text: text.to_owned(), pattern: key.clone() };
        assert_eq!(Check::parse("True:%(k)s"), literal("True"));
        assert_eq!(Check::parse("'member':%(k)s"), literal("member"));
        assert_eq!(Check::parse("5:%(k)s"), literal("5"));
        assert_eq!(Check::parse("1e3:%(k)s"), literal("1000.0"));
        assert_eq!(
            Check::parse("nan:%(k)s"),
            Check::Attribute { name: "nan".to_owned(), pattern: key.clone() }
        );
        assert_eq!(
            Check::parse("user.id:%(k)s"),
            Check::Attribute { name: "user.id".to_owned(), pattern: key.clone() }
        );
    }
}
