//! Colours, for people at a terminal only.

use std::io::IsTerminal;

#[derive(Clone, Copy, Debug)]
pub enum Colour {
    Green,
    Yellow,
    Red,
    Dim,
}

/// Text in a colour where standard output shows one.
pub fn paint(colour: Colour, text: &str) -> String {
    if !std::io::stdout().is_terminal() || std::env::var_os("NO_COLOR").is_some() {
        return text.to_owned();
    }
    let code = match colour {
        Colour::Green => 32,
        Colour::Yellow => 33,
        Colour::Red => 31,
        Colour::Dim => 2,
    };
    format!("\u{1b}[{code}m{text}\u{1b}[0m")
}
