//! Changes to a TOML text that leave its comments and everything else as they are.

/// Sets a key to a value, already in TOML's spelling: in place of a line that sets it, else of
/// the one that shows its default, else at the head of its section.
pub fn set(text: &str, section: &str, key: &str, value: &str) -> String {
    let line = format!("{key} = {value}");
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let Some((head, end)) = extent(&lines, section) else {
        if lines.last().is_some_and(|last| !last.is_empty()) {
            lines.push(String::new());
        }
        lines.extend([format!("[{section}]"), line]);
        return joined(&lines);
    };
    let sets = |l: &String| assigns(l, key);
    let shows = |l: &String| l.strip_prefix('#').is_some_and(|l| assigns(l, key));
    let within = &lines[head + 1..end];
    let place = within.iter().position(sets).or_else(|| within.iter().position(shows));
    match place {
        Some(place) => lines[head + 1 + place] = line,
        None => lines.insert(head + 1, line),
    }
    joined(&lines)
}

/// Turns the line that sets a key, if there is one, into a comment.
pub fn unset(text: &str, section: &str, key: &str) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    if let Some((head, end)) = extent(&lines, section)
        && let Some(line) = lines[head + 1..end].iter_mut().find(|l| assigns(l, key))
    {
        line.insert(0, '#');
    }
    joined(&lines)
}

/// A text in TOML's spelling, which for texts is JSON's.
pub fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn assigns(line: &str, key: &str) -> bool {
    let rest = line.trim_start().strip_prefix(key);
    rest.is_some_and(|rest| rest.trim_start().starts_with('='))
}

/// Where a section begins, and the line behind its last one.
fn extent(lines: &[String], section: &str) -> Option<(usize, usize)> {
    let header = format!("[{section}]");
    let head = lines.iter().position(|line| line.trim() == header)?;
    let next = lines[head + 1..].iter().position(|line| line.trim_start().starts_with('['));
    Some((head, next.map_or(lines.len(), |n| head + 1 + n)))
}

fn joined(lines: &[String]) -> String {
    let mut text = lines.join("\n");
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_neighbours_stay() {
        let text = "# mine\n[a]\n#region = \"x\"\nname = \"old\" # note\n\n[b]\nname = \"b\"\n";
        let text = set(text, "a", "name", &quoted("new"));
        let text = set(&text, "a", "region", &quoted("R\"1"));
        let text = set(&text, "a", "fresh", "true");
        let text = set(&text, "c.d", "key", "1");
        assert_eq!(
            text,
            "# mine\n[a]\nfresh = true\nregion = \"R\\\"1\"\nname = \"new\"\n\n[b]\nname = \"b\"\n\n\
             [c.d]\nkey = 1\n"
        );
        assert!(toml::from_str::<toml::Table>(&text).is_ok());
        assert!(unset(&text, "b", "name").contains("#name = \"b\""));
        assert_eq!(unset(&text, "z", "name"), text);
        // A key that only begins alike is another key.
        assert!(set("[a]\nnames = 1\n", "a", "name", "2").contains("name = 2\nnames = 1"));
    }
}
