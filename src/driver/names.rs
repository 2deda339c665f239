//! Whether every name in a template is one that templates are given.
//!
//! Tera takes an unknown variable in a condition for false; a misspelt label would quietly
//! switch something off. So names are looked up before anything is rendered.

use std::collections::{BTreeMap, BTreeSet};

use super::context::SHAPES;

/// A name in a template that means nothing, and its cure.
#[derive(Debug, PartialEq, Eq)]
pub struct Unknown {
    pub line: u32,
    pub reason: String,
}

/// What a driver's own manifest adds to the names that all templates are given.
#[derive(Debug, Default)]
pub struct Known<'m> {
    pub labels: Vec<&'m str>,
    pub values: Vec<&'m str>,
}

/// What was found in one template.
#[derive(Debug, Default)]
pub struct Names {
    /// Root, the field asked of it, and the line.
    used: Vec<(String, Option<String>, u32)>,
    /// Variables that the template itself makes.
    bound: BTreeSet<String>,
    /// Templates that it includes, and plain files that it sets in.
    pub includes: BTreeSet<String>,
    pub files: BTreeSet<String>,
}

/// Words that are no variables.
const WORDS: &[&str] = &[
    "true",
    "false",
    "True",
    "False",
    "none",
    "None",
    "null",
    "and",
    "or",
    "not",
    "is",
    "in",
    "if",
    "else",
    "elif",
    "endif",
    "for",
    "endfor",
    "set",
    "set_global",
    "endset",
    "filter",
    "endfilter",
    "include",
    "raw",
    "endraw",
    "break",
    "continue",
    "block",
    "endblock",
    "extends",
    "component",
    "endcomponent",
    "loop",
    "self",
    "super",
    "body",
];

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    /// A word, and whether it follows a dot.
    Word(String, bool),
    Text(String),
    Sign(char),
}

impl Names {
    /// Reads a template.
    pub fn of_template(text: &str) -> Self {
        let mut names = Self::default();
        let mut at = 0;
        while let Some((start, kind)) = next_opening(text, at) {
            let inner = start + 2;
            if kind == '#' {
                at = text[inner..].find("#}").map_or(text.len(), |i| inner + i + 2);
                continue;
            }
            let end = closing(text, inner, kind);
            at = (end + 2).min(text.len());
            if kind == '%' && text[inner..end].trim_matches(['-', ' ']) == "raw" {
                at = text[at..].find("endraw").map_or(text.len(), |i| at + i);
            } else {
                let code = text[inner..end].trim_start_matches('-').trim_end_matches('-');
                names.read(code, line_at(text, start));
            }
        }
        names
    }

    /// Reads a single expression, which stands at `line`.
    pub fn of_expression(text: &str, line: u32) -> Self {
        let mut names = Self::default();
        names.read(text, line);
        names
    }

    fn read(&mut self, code: &str, first: u32) {
        let tokens = tokens(code);
        let word = |i: usize| match tokens.get(i) {
            Some((Token::Word(word, false), _)) => Some(word.as_str()),
            _ => None,
        };
        let sign = |i: usize| match tokens.get(i) {
            Some((Token::Sign(sign), _)) => Some(*sign),
            _ => None,
        };
        let mut components = false;
        for i in 0..tokens.len() {
            let Some(name) = word(i) else { continue };
            let before = i.checked_sub(1);
            match name {
                "set" | "set_global" if i == 0 => self.bound.extend(word(1).map(str::to_owned)),
                "for" => {
                    self.bound.extend(word(i + 1).map(str::to_owned));
                    if sign(i + 2) == Some(',') {
                        self.bound.extend(word(i + 3).map(str::to_owned));
                    }
                }
                "component" if i == 0 => components = true,
                "include" if i == 0 => {
                    if let Some((Token::Text(path), _)) = tokens.get(1) {
                        self.includes.insert(path.clone());
                    }
                }
                _ => {}
            }
            if components {
                self.bound.insert(name.to_owned());
                continue;
            }
            let is_filter = before.and_then(sign) == Some('|')
                || (i == 1 && before.and_then(word) == Some("filter"));
            let is_test = before.and_then(word).is_some_and(|w| w == "is")
                || (before.and_then(word) == Some("not")
                    && i.checked_sub(2).and_then(word) == Some("is"));
            // `name(` is a function, `name=` names an argument, `name==` compares.
            let is_call = sign(i + 1) == Some('(');
            let is_argument = sign(i + 1) == Some('=')
                && sign(i + 2) != Some('=')
                && before.and_then(sign).is_some_and(|s| s == '(' || s == ',');
            if name == "file" && is_call {
                let argument = tokens[i..].iter().find_map(|(token, _)| match token {
                    Token::Text(path) => Some(path.clone()),
                    _ => None,
                });
                self.files.extend(argument);
            }
            if WORDS.contains(&name) || is_filter || is_test || is_call || is_argument {
                continue;
            }
            let field = |i: usize| match tokens.get(i) {
                Some((Token::Word(word, true), _)) => Some(word.clone()),
                _ => None,
            };
            let line = first + tokens[i].1;
            match name {
                // What it was before an upgrade has the shape of what it is now.
                "from" => match field(i + 1) {
                    Some(root) => self.used.push((root, field(i + 2), line)),
                    None => self.used.push((name.to_owned(), None, line)),
                },
                name => self.used.push((name.to_owned(), field(i + 1), line)),
            }
        }
    }

    /// What is asked for, root and field, without what the text itself makes.
    pub fn asked(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        let given = self.used.iter().filter(|(root, ..)| !self.bound.contains(root));
        given.map(|(root, field, _)| (root.as_str(), field.as_deref()))
    }

    /// The first name that nobody gives. `around` are names that includers have made.
    pub fn unknown(&self, known: &Known<'_>, around: &BTreeSet<String>) -> Option<Unknown> {
        let is_bound = |name: &str| self.bound.contains(name) || around.contains(name);
        self.used.iter().find_map(|(root, field, line)| {
            if is_bound(root) {
                return None;
            }
            let said = |what: String, near: Option<String>| {
                let cure = near.map_or_else(String::new, |near| format!("; did you mean {near}?"));
                Some(Unknown { line: *line, reason: format!("{what}{cure}") })
            };
            let fields: Vec<&str> = match (root.as_str(), SHAPES.iter().find(|(n, _)| n == root)) {
                ("labels", _) => known.labels.clone(),
                ("values", _) => known.values.clone(),
                (_, Some((_, fields))) => fields.to_vec(),
                (_, None) => {
                    let roots = SHAPES.iter().map(|(name, _)| *name);
                    let near = nearest(root, roots.chain(["labels", "values"]));
                    return said(format!("there is no variable {root}"), near);
                }
            };
            let field = field.as_deref()?;
            if fields.is_empty() && !matches!(root.as_str(), "labels" | "values")
                || fields.contains(&field)
            {
                return None;
            }
            let what = match root.as_str() {
                "labels" => format!("label {field} is not declared in driver.yaml"),
                "values" => format!("there is no value {field} in driver.yaml, or only below"),
                root => format!("{root} has no {field}"),
            };
            said(what, nearest(field, fields.into_iter()))
        })
    }
}

/// For each template the names that those which include it have made, directly or not.
pub fn inherited(all: &BTreeMap<String, Names>) -> BTreeMap<String, BTreeSet<String>> {
    let mut around: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    // As deep as includes can be nested without a circle.
    for _ in 0..all.len() {
        let before = around.clone();
        for (name, names) in all {
            let mut given = names.bound.clone();
            given.extend(before.get(name).into_iter().flatten().cloned());
            for included in &names.includes {
                around.entry(included.clone()).or_default().extend(given.iter().cloned());
            }
        }
        if before == around {
            break;
        }
    }
    around
}

fn nearest<'k>(unknown: &str, known: impl Iterator<Item = &'k str>) -> Option<String> {
    known
        .map(|known| (strsim::jaro_winkler(unknown, known), known))
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .filter(|(likeness, _)| *likeness > 0.8)
        .map(|(_, known)| known.to_owned())
}

fn line_at(text: &str, at: usize) -> u32 {
    let lines = text[..at].bytes().filter(|b| *b == b'\n').count();
    u32::try_from(lines + 1).unwrap_or(u32::MAX)
}

/// The next `{{`, `{%` or `{#` and which it is.
fn next_opening(text: &str, from: usize) -> Option<(usize, char)> {
    text[from..].match_indices('{').find_map(|(i, _)| {
        let start = from + i;
        let kind = text[start + 1..].chars().next().filter(|c| matches!(c, '{' | '%' | '#'))?;
        Some((start, kind))
    })
}

/// Where the code that begins at `from` ends, texts in it looked over.
fn closing(text: &str, from: usize, kind: char) -> usize {
    let close = if kind == '{' { "}}" } else { "%}" };
    let mut quote = None;
    // Braces of maps inside an expression close before its own.
    let mut depth = 0_usize;
    let bytes = text.as_bytes();
    let mut i = from;
    while i < bytes.len() {
        let byte = bytes[i];
        match (quote, byte) {
            (Some(_), b'\\') => i += 1,
            (Some(open), _) if byte == open => quote = None,
            (Some(_), _) => {}
            (None, b'"' | b'\'' | b'`') => quote = Some(byte),
            (None, b'{') => depth += 1,
            (None, b'}') if depth > 0 => depth -= 1,
            (None, _) if text.as_bytes()[i..].starts_with(close.as_bytes()) => return i,
            _ => {}
        }
        i += 1;
    }
    text.len()
}

/// The tokens of code, each with its line counted from 0.
fn tokens(code: &str) -> Vec<(Token, u32)> {
    let mut tokens = Vec::new();
    let mut line = 0;
    let mut dotted = false;
    let mut rest = code.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\n' => line += 1,
            c if c.is_whitespace() => {}
            '"' | '\'' | '`' => {
                let mut text = String::new();
                while let Some(inner) = rest.next() {
                    match inner {
                        '\\' => text.extend(rest.next()),
                        inner if inner == c => break,
                        inner => {
                            line += u32::from(inner == '\n');
                            text.push(inner);
                        }
                    }
                }
                tokens.push((Token::Text(text), line));
                dotted = false;
            }
            c if c.is_alphanumeric() || c == '_' => {
                let mut word = String::from(c);
                while let Some(next) = rest.peek().filter(|c| c.is_alphanumeric() || **c == '_') {
                    word.push(*next);
                    rest.next();
                }
                if !word.starts_with(|c: char| c.is_ascii_digit()) {
                    tokens.push((Token::Word(word, dotted), line));
                }
                dotted = false;
            }
            '.' => {
                // Three of them spread a list.
                let spreads = rest.peek() == Some(&'.');
                while rest.peek() == Some(&'.') {
                    rest.next();
                }
                dotted = !spreads;
            }
            '?' => {}
            sign => {
                tokens.push((Token::Sign(sign), line));
                dotted = false;
            }
        }
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Option<String> {
        let known = Known { labels: vec!["etcd_volume_size", "pods"], values: vec!["nodes"] };
        let unknown = Names::of_template(text).unknown(&known, &BTreeSet::new())?;
        Some(format!("{}: {}", unknown.line, unknown.reason))
    }

    #[test]
    fn what_templates_are_given_is_known() {
        for good in [
            "{{ cluster.name | q }} {# {{ nonsense }} #} { not code }",
            "{% if labels.pods and not template.tls_disabled %}{{ values.nodes }}{% endif %}",
            "{% for master in masters %}{{ master.anything ~ loop.index }}{% endfor %}",
            "{% for k, v in workers.node_labels %}{{ k }}{{ v }}{% endfor %}",
            "{% set a = {\"x\": 1, \"y\": [labels.pods]} %}{{ a.b }}",
            "{{ [c for c in values.nodes if c != \"x y z\"] | join(sep=\", \") }}",
            "{{ [...values.nodes, 'nonsense'] | q }}{{ 10 * 3 }}",
            "{% raw %}{{ nonsense }}{% endraw %}",
            "{% filter block(indent=4) %}{% include \"x.tera\" %}{% endfilter %}",
            "{{ node?.name is none and node.index is not defined }}",
            "{%- set a -%}x{%- endset -%}{{ a }}{%- for b in masters -%}{{- b -}}{%- endfor %}",
            "{{ throw(message=cluster.name) }}{{ 'a' if net.own else `b` }}",
            "{{ from.labels.pods == labels.pods }}",
        ] {
            assert_eq!(check(good), None, "{good}");
        }
    }

    #[test]
    fn what_they_are_not_is_named_with_its_line_and_cure() {
        for (bad, said) in [
            ("\n{% if labels.etcd_volume_siz %}", "2: label etcd_volume_siz is not declared"),
            ("{{ clutser.name }}", "1: there is no variable clutser; did you mean cluster?"),
            ("{{ cluster.nmae }}", "1: cluster has no nmae; did you mean name?"),
            ("{{ [\n1,\nvalues.nods] }}", "3: there is no value nods"),
            (
                "{{ from.labels.pod }}",
                "1: label pod is not declared in driver.yaml; did you mean pods?",
            ),
            ("{{ {\"a\": nothing} | q }}", "1: there is no variable nothing"),
            ("{% set x = y %}", "1: there is no variable y"),
            ("{{ \"}}\" ~ y }}", "1: there is no variable y"),
        ] {
            let found = check(bad).unwrap_or_default();
            assert!(found.starts_with(said), "{bad}: {found}");
        }
    }

    #[test]
    fn included_templates_know_what_their_includers_make() {
        let all: BTreeMap<String, Names> = [
            ("a", "{% set api = 1 %}{% include \"b\" %}"),
            ("b", "{% include 'c' %}"),
            ("c", "{{ api }}{{ file(name=\"lib.sh\") }}"),
        ]
        .into_iter()
        .map(|(name, text)| (name.to_owned(), Names::of_template(text)))
        .collect();
        let around = inherited(&all);
        assert_eq!(all["c"].unknown(&Known::default(), &around["c"]), None);
        assert!(all["c"].unknown(&Known::default(), &BTreeSet::new()).is_some());
        assert_eq!(all["c"].files, BTreeSet::from(["lib.sh".to_owned()]));
    }
}
