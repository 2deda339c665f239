//! Just enough of regular expressions for `allowed_pattern`: matching from the start of the
//! text, as Python's `re.match` does. Look-around and back-references are refused.

/// A compiled pattern.
#[derive(Clone, Debug)]
pub struct Pattern {
    source: String,
    root: Node,
}

#[derive(Clone, Debug)]
enum Node {
    Start,
    End,
    Any,
    Char(char),
    Class { negated: bool, ranges: Vec<(char, char)> },
    Sequence(Vec<Node>),
    Either(Vec<Node>),
    Repeat { node: Box<Node>, min: usize, max: usize, lazy: bool },
}

/// How much work one match may cost before it counts as no match.
const STEPS: usize = 200_000;

impl Pattern {
    pub fn new(source: &str) -> Result<Self, String> {
        let chars: Vec<char> = source.chars().collect();
        let mut parser = Parser { chars: &chars, at: 0, depth: 0 };
        let root = parser.either()?;
        if parser.at < chars.len() {
            return Err(format!("unbalanced parenthesis at position {}", parser.at));
        }
        Ok(Self { source: source.to_owned(), root })
    }

    pub fn source(&self) -> &str {
        &self.source
    }

    pub fn matches(&self, text: &str) -> bool {
        let text: Vec<char> = text.chars().take(4096).collect();
        let mut steps = STEPS;
        run(&self.root, &text, 0, &mut steps, &mut |_, _| true)
    }
}

struct Parser<'p> {
    chars: &'p [char],
    at: usize,
    depth: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn either(&mut self) -> Result<Node, String> {
        self.depth += 1;
        if self.depth > 50 {
            return Err("pattern is nested too deeply".to_owned());
        }
        let mut arms = vec![self.sequence()?];
        while self.peek() == Some('|') {
            self.at += 1;
            arms.push(self.sequence()?);
        }
        self.depth -= 1;
        Ok(if arms.len() == 1 { arms.remove(0) } else { Node::Either(arms) })
    }

    fn sequence(&mut self) -> Result<Node, String> {
        let mut nodes = Vec::new();
        while let Some(next) = self.peek() {
            if next == '|' || next == ')' {
                break;
            }
            let node = self.atom()?;
            nodes.push(self.repeated(node)?);
        }
        Ok(Node::Sequence(nodes))
    }

    fn atom(&mut self) -> Result<Node, String> {
        let at = self.at;
        let char = self.peek().expect("the caller looked");
        self.at += 1;
        Ok(match char {
            '^' => Node::Start,
            '$' => Node::End,
            '.' => Node::Any,
            '*' | '+' | '?' => return Err(format!("nothing to repeat at position {at}")),
            '(' => {
                if self.peek() == Some('?') {
                    if self.chars.get(self.at + 1) != Some(&':') {
                        return Err(format!("unsupported extension at position {at}"));
                    }
                    self.at += 2;
                }
                let inner = self.either()?;
                if self.peek() != Some(')') {
                    return Err(format!("missing ), unterminated subpattern at position {at}"));
                }
                self.at += 1;
                inner
            }
            '[' => self.class(at)?,
            '\\' => self.escape(at)?,
            other => Node::Char(other),
        })
    }

    fn escape(&mut self, at: usize) -> Result<Node, String> {
        let Some(char) = self.peek() else {
            return Err(format!("bad escape (end of pattern) at position {at}"));
        };
        self.at += 1;
        let class =
            |negated, ranges: &[(char, char)]| Node::Class { negated, ranges: ranges.into() };
        Ok(match char {
            'd' => class(false, &[('0', '9')]),
            'D' => class(true, &[('0', '9')]),
            'w' => class(false, WORD),
            'W' => class(true, WORD),
            's' => class(false, SPACE),
            'S' => class(true, SPACE),
            'A' => Node::Start,
            'Z' => Node::End,
            'n' => Node::Char('\n'),
            't' => Node::Char('\t'),
            'r' => Node::Char('\r'),
            other if other.is_ascii_alphanumeric() => {
                return Err(format!("bad escape \\{other} at position {at}"));
            }
            other => Node::Char(other),
        })
    }

    fn class(&mut self, at: usize) -> Result<Node, String> {
        let negated = self.peek() == Some('^');
        if negated {
            self.at += 1;
        }
        let mut ranges = Vec::new();
        let mut first = true;
        loop {
            let Some(mut char) = self.peek() else {
                return Err(format!("unterminated character set at position {at}"));
            };
            self.at += 1;
            if char == ']' && !first {
                break;
            }
            first = false;
            if char == '\\' {
                match self.escape(at)? {
                    Node::Class { negated: false, ranges: more } => {
                        ranges.extend(more);
                        continue;
                    }
                    Node::Char(escaped) => char = escaped,
                    _ => return Err(format!("unsupported escape in a set at position {at}")),
                }
            }
            let end = match (self.peek(), self.chars.get(self.at + 1)) {
                (Some('-'), Some(&end)) if end != ']' => {
                    self.at += 2;
                    if end < char {
                        return Err(format!("bad character range at position {at}"));
                    }
                    end
                }
                _ => char,
            };
            ranges.push((char, end));
        }
        Ok(Node::Class { negated, ranges })
    }

    fn repeated(&mut self, node: Node) -> Result<Node, String> {
        let (min, max) = match self.peek() {
            Some('*') => (0, usize::MAX),
            Some('+') => (1, usize::MAX),
            Some('?') => (0, 1),
            Some('{') => match self.counted() {
                Some(counts) => counts,
                None => return Ok(node),
            },
            _ => return Ok(node),
        };
        self.at += 1;
        let lazy = self.peek() == Some('?');
        if lazy {
            self.at += 1;
        }
        if matches!(self.peek(), Some('*' | '+')) {
            return Err(format!("multiple repeat at position {}", self.at));
        }
        Ok(Node::Repeat { node: Box::new(node), min, max, lazy })
    }

    /// `{m}`, `{m,}`, `{,n}`, `{m,n}`; leaves the position on the closing brace.
    fn counted(&mut self) -> Option<(usize, usize)> {
        let close = self.at + self.chars[self.at..].iter().position(|c| *c == '}')?;
        let inner: String = self.chars[self.at + 1..close].iter().collect();
        let read = |text: &str, empty: usize| {
            if text.is_empty() { Some(empty) } else { text.parse::<u16>().ok().map(usize::from) }
        };
        let counts = match inner.split_once(',') {
            Some((min, max)) => (read(min, 0)?, read(max, usize::MAX)?),
            None => (read(&inner, usize::MAX)?, read(&inner, usize::MAX)?),
        };
        self.at = close;
        Some(counts)
    }
}

const WORD: &[(char, char)] = &[('a', 'z'), ('A', 'Z'), ('0', '9'), ('_', '_')];
const SPACE: &[(char, char)] = &[(' ', ' '), ('\t', '\r')];

type Then<'t> = &'t mut dyn FnMut(usize, &mut usize) -> bool;

fn run(node: &Node, text: &[char], at: usize, steps: &mut usize, then: Then<'_>) -> bool {
    if *steps == 0 {
        return false;
    }
    *steps -= 1;
    let one = |fits: bool, steps: &mut usize, then: Then<'_>| fits && then(at + 1, steps);
    match node {
        Node::Start => at == 0 && then(at, steps),
        Node::End => {
            let end = at == text.len() || (at + 1 == text.len() && text[at] == '\n');
            end && then(at, steps)
        }
        Node::Any => one(text.get(at).is_some_and(|c| *c != '\n'), steps, then),
        Node::Char(char) => one(text.get(at) == Some(char), steps, then),
        Node::Class { negated, ranges } => {
            let fits = text.get(at).is_some_and(|c| {
                ranges.iter().any(|(from, to)| (from..=to).contains(&c)) != *negated
            });
            one(fits, steps, then)
        }
        Node::Sequence(nodes) => sequence(nodes, text, at, steps, then),
        Node::Either(arms) => arms.iter().any(|arm| run(arm, text, at, steps, then)),
        Node::Repeat { node, min, max, lazy } => {
            repeat((node, *min, *max, *lazy), text, at, 0, steps, then)
        }
    }
}

fn sequence(nodes: &[Node], text: &[char], at: usize, steps: &mut usize, then: Then<'_>) -> bool {
    match nodes {
        [] => then(at, steps),
        [first, rest @ ..] => {
            run(first, text, at, steps, &mut |next, steps| sequence(rest, text, next, steps, then))
        }
    }
}

fn repeat(
    what: (&Node, usize, usize, bool),
    text: &[char],
    at: usize,
    done: usize,
    steps: &mut usize,
    then: Then<'_>,
) -> bool {
    let (node, min, max, lazy) = what;
    if done >= min && lazy && then(at, steps) {
        return true;
    }
    // A deep recursion is a long text: give up before the stack does.
    let more = done < max
        && done < 1000
        && run(node, text, at, steps, &mut |next, steps| {
            (next > at || done < min) && repeat(what, text, next, done + 1, steps, then)
        });
    more || (done >= min && !lazy && then(at, steps))
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
        for wrong in ["(", "[a", "*", "a)", "(?=x)", "\\"] {
            assert!(Pattern::new(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_expensive_pattern_gives_up() {
        assert!(!fits("(a*)*b", &"a".repeat(200)));
        assert!(fits("(?:a|b)*", &"ab".repeat(3000)));
    }
}
