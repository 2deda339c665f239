//! Text of others, for people to read: what it says is kept, and what it would have a terminal do is
//! left out. Line ends are spaces in [`line()`], so that nobody's words look like a line of ours.

/// One line: without control characters, and without what changes the direction of text or is not
/// seen.
pub fn line(text: &str) -> String {
    let parts = text.split(|c: char| ends_line(c) || c == '\t').map(shown);
    parts.filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

/// The same, with its line ends and tabs.
pub fn lines(text: &str) -> String {
    text.chars().filter(|&c| matches!(c, '\n' | '\t') || !is_unseen(c)).collect()
}

fn shown(text: &str) -> String {
    text.chars().filter(|&c| !is_unseen(c)).collect()
}

/// Where terminals, editors or readers of logs begin a new line.
const fn ends_line(c: char) -> bool {
    matches!(c, '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// Control characters, marks and overrides of direction, spaces without width, tags. The two that
/// join letters or keep them apart belong to several languages.
fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}'
                | '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'
                | '\u{200e}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_a_terminal_or_turns_text_around_is_left_out() {
        let table = [
            ("No valid host was found.", "No valid host was found."),
            ("a  b", "a  b"),
            ("no\u{1b}[2J\u{1b}]0;x\u{7} route", "no[2J]0;x route"),
            ("evil\u{202e}txt.exe\u{2066}\u{200f}", "eviltxt.exe"),
            ("one\r\nCREATE_COMPLETE\n\ttwo\u{2028}three", "one CREATE_COMPLETE two three"),
            ("\u{9b}31m\u{feff}\u{200b}\u{e0041}", "31m"),
            ("Ä日本 \u{200d}x", "Ä日本 \u{200d}x"),
            ("\n\u{1b}\n", ""),
        ];
        for (text, shown) in table {
            assert_eq!(line(text), shown, "{text:?}");
        }
        assert_eq!(lines("a\r\n\tb\u{1b}\u{202e}\u{2028}c"), "a\n\tbc");
    }
}
