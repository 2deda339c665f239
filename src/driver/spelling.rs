//! How tenants write labels whose values are words: with nothing in them that nobody sees.
//!
//! A value that looks like one of those that a check knows, and is not equal to it, passes the check
//! and fails later, or means something else to another reader. So what a request brings is refused
//! where it has blanks at its ends or characters that are not shown. Labels of clusters that are
//! there already are read as they always were.

use super::DriverError;
use super::craft::Driver;
use super::label::{Kind, Label, invalid};
use crate::model::labels::Labels;

impl Driver {
    /// Refuses the first value that is not what it looks like.
    pub fn check_spelling(&self, labels: &Labels) -> Result<(), DriverError> {
        for label in self.labels() {
            for name in label.names() {
                if let Some(text) = labels.get(name) {
                    check(label, name, text)?;
                }
            }
        }
        Ok(())
    }
}

fn check(label: &Label, name: &str, text: &str) -> Result<(), DriverError> {
    // What is blank throughout counts as not given; the other kinds take no letter that is not
    // their own.
    let is_words = matches!(label.spec.kind, Kind::Enum | Kind::String | Kind::List);
    if !is_words || text.trim().is_empty() {
        return Ok(());
    }
    let cure = match text.chars().find(|c| is_unseen(*c)) {
        Some(unseen) => {
            format!("written without U+{:04X}, which nobody sees", u32::from(unseen))
        }
        // Blanks are part of how a list is written.
        None if label.spec.kind != Kind::List && text.trim() != text => {
            "written without blanks at its ends".to_owned()
        }
        None => return Ok(()),
    };
    let shown: String = match label.spec.secret {
        true => "(secret)".to_owned(),
        false => text.chars().map(visibly).collect(),
    };
    Err(invalid(name, &shown, &cure))
}

fn visibly(c: char) -> String {
    if is_unseen(c) { c.escape_unicode().to_string() } else { c.to_string() }
}

/// Control and format characters, fillers, selectors of variants and all blanks but the usual one
/// (Unicode's Default_Ignorable_Code_Point, White_Space and category Cc).
fn is_unseen(c: char) -> bool {
    c.is_control()
        || (c.is_whitespace() && c != ' ')
        || matches!(
            c,
            '\u{ad}'
                | '\u{34f}'
                | '\u{61c}'
                | '\u{115f}'..='\u{1160}'
                | '\u{17b4}'..='\u{17b5}'
                | '\u{180b}'..='\u{180f}'
                | '\u{200b}'..='\u{200f}'
                | '\u{202a}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{2800}'
                | '\u{3164}'
                | '\u{fe00}'..='\u{fe0f}'
                | '\u{feff}'
                | '\u{ffa0}'
                | '\u{fff0}'..='\u{fffb}'
                | '\u{1bca0}'..='\u{1bca3}'
                | '\u{1d173}'..='\u{1d17a}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

#[cfg(test)]
mod tests {
    use super::super::Drivers;
    use super::*;

    /// Every label of every driver: one that is made of words takes nothing unseen here, any other
    /// where it is read.
    #[test]
    fn no_label_of_any_driver_takes_what_nobody_sees() {
        let unseen = ['\u{200b}', '\u{feff}', '\u{202e}', '\u{ad}', '\u{a0}', '\t', '\u{7f}'];
        let mut tried = 0;
        for driver in Drivers::builtin(&[]).iter() {
            for label in driver.labels() {
                let sample = match &label.spec.allowed {
                    Some(allowed) => allowed[0].0.clone(),
                    None => "x".to_owned(),
                };
                for c in unseen {
                    for text in [format!("{sample}{c}"), format!("{c}{sample}")] {
                        let labels = Labels::from_iter([(label.name.as_str(), text.as_str())]);
                        let is_words =
                            matches!(label.spec.kind, Kind::Enum | Kind::String | Kind::List);
                        let refused = match is_words {
                            true => driver.check_spelling(&labels).is_err(),
                            // Blanks around a number are no part of it.
                            false => c.is_whitespace() || label.given(&labels).is_err(),
                        };
                        assert!(refused, "{} {}: {text:?}", driver.name(), label.name);
                        tried += 1;
                    }
                }
            }
        }
        assert!(tried > 1000, "{tried}");
    }

    #[test]
    fn a_refusal_shows_what_is_not_seen() {
        let driver = Drivers::builtin(&[]).by_name("k8s_kubeadm_v1").unwrap();
        let said = |name: &str, text: &str| {
            let labels = Labels::from_iter([(name, text)]);
            driver.check_spelling(&labels).err().map(|e| e.to_string())
        };
        for (text, words) in [
            ("ovn\u{200b}", "Value: 'ovn\\u{200b}'. It must be written without U+200B, which"),
            (" ovn", "Value: ' ovn'. It must be written without blanks at its ends."),
            ("ovn ", "Value: 'ovn '. It must be written without blanks at its ends."),
            ("\u{a0}ovn", "without U+00A0"),
        ] {
            let said = said("octavia_provider", text).unwrap();
            assert!(said.starts_with("Invalid input for label octavia_provider. "), "{said}");
            assert!(said.contains(words), "{said}");
        }
        for (name, text) in [
            ("octavia_provider", "ovn"),
            ("octavia_provider", " "),
            ("availability_zone", "Zürich west 1"),
            ("min_node_count", " 1 "),
            ("no_label_of_ours", " x"),
        ] {
            assert_eq!(said(name, text), None, "{name} {text:?}");
        }
    }
}
