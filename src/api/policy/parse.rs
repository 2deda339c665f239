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

/// Text with `%(key)s` places that the target fills.
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
                let any = alternatives.iter().map(|alternative| match alternative {
                    Value::String(check) => leaf(check),
                    Value::Array(checks) => {
                        let all = checks.iter().map(|check| leaf(check.as_str()?));
                        Some(Self::All(all.collect::<Option<_>>()?))
                    }
                    _ => None,
                });
                Some(Self::Any(any.collect::<Option<_>>()?))
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

    #[cfg(test)]
    pub fn named_rules(&self) -> Vec<&str> {
        match self {
            Self::Rule(name) => vec![name],
            Self::Not(inner) => inner.named_rules(),
            Self::All(parts) | Self::Any(parts) => {
                parts.iter().flat_map(Self::named_rules).collect()
            }
            _ => Vec::new(),
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

/// What the left side prints as, where it is a literal and not a name.
fn literal(kind: &str) -> Option<String> {
    if matches!(kind, "True" | "False" | "None") || kind.parse::<f64>().is_ok_and(f64::is_finite) {
        return Some(kind.to_owned());
    }
    ['\'', '"'].iter().find_map(|quote| {
        let inner = kind.strip_prefix(*quote)?.strip_suffix(*quote)?;
        Some(inner.to_owned())
    })
}

impl Pattern {
    fn parse(text: &str) -> Option<Self> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("%(") {
            if !before.is_empty() {
                pieces.push(Piece::Text(before.to_owned()));
            }
            let (key, behind) = after.split_once(")s")?;
            pieces.push(Piece::Key(key.to_owned()));
            rest = behind;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        Some(Self(pieces))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        for text in
            ["role", "(role:a", "role:a)", "role:a role:b", "and", "not", "role:a or", "x:%(y"]
        {
            assert_eq!(Check::parse(text), Check::Never, "{text}");
        }
        assert_eq!(Check::parse(&"(".repeat(100_000)), Check::Never);
        assert_eq!(Check::parse(&"not ".repeat(100_000)), Check::Never);
    }

    #[test]
    fn the_left_side_is_a_literal_or_a_name() {
        let key = Pattern(vec![Piece::Key("k".to_owned())]);
        let literal = |text: &str| Check::Literal { text: text.to_owned(), pattern: key.clone() };
        assert_eq!(Check::parse("True:%(k)s"), literal("True"));
        assert_eq!(Check::parse("'member':%(k)s"), literal("member"));
        assert_eq!(
            Check::parse("user.id:%(k)s"),
            Check::Attribute { name: "user.id".to_owned(), pattern: key.clone() }
        );
    }
}
