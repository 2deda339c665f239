//! `magnumd config`: what is in force and why, and what another Magnum's file would make of it.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use magnumd::config::{ConfigError, Import, Item, Loaded, Origin, shown, written};
use serde_json::{Value, json};

use super::source::Source;
use super::{Output, WRONG_CONFIGURATION, complain, say};

#[derive(Debug, Args)]
pub struct Config {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Print every option as it is in force. Secrets show only whether they are set.
    Show(Show),
    /// Make a magnumd.toml of Magnum's own magnum.conf; each option that has no place in it is
    /// named on standard error.
    Import(ImportFile),
}

#[derive(Debug, Args)]
struct Show {
    #[command(flatten)]
    source: Source,
    /// Say where each value was given.
    #[arg(long)]
    origin: bool,
    /// How to print it.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Debug, Args)]
struct ImportFile {
    /// In oslo.config's format.
    file: PathBuf,
    /// Write to a new file, readable to its owner alone, rather than to standard output.
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
}

impl Config {
    pub fn run(self) -> ExitCode {
        match self.verb {
            Verb::Show(show) => show.run(),
            Verb::Import(import) => import.run(),
        }
    }
}

fn unusable(error: &ConfigError) -> ExitCode {
    complain(error);
    ExitCode::from(WRONG_CONFIGURATION)
}

impl Show {
    fn run(self) -> ExitCode {
        let loaded = match self.source.layers().load() {
            Ok(loaded) => loaded,
            Err(e) => return unusable(&e),
        };
        loaded.warnings.iter().for_each(|warning| complain(warning));
        match self.output {
            Output::Text => say(&self.text(&loaded)),
            Output::Json => say(&format!("{}\n", self.json(&loaded))),
        }
        ExitCode::SUCCESS
    }

    fn text(&self, loaded: &Loaded) -> String {
        let each = loaded.settings().into_iter().map(|(Item { key, setting, .. }, origin)| {
            // As in a file: what is not set is commented out.
            let line = match shown(&setting) {
                Some(value) => format!("{key} = {}", written(&value)),
                None => format!("#{key} ="),
            };
            match self.origin {
                true => format!("{line:<60} # {origin}\n"),
                false => format!("{line}\n"),
            }
        });
        each.collect()
    }

    fn json(&self, loaded: &Loaded) -> Value {
        let entry = |(item, origin): (Item, Origin)| {
            let value = shown(&item.setting).map_or(Value::Null, |value| json!(value));
            let entry = match self.origin {
                true => json!({"value": value, "origin": origin.to_string()}),
                false => value,
            };
            (item.key, entry)
        };
        Value::Object(loaded.settings().into_iter().map(entry).collect())
    }
}

impl ImportFile {
    fn run(self) -> ExitCode {
        let import = match Import::read(&self.file) {
            Ok(import) => import,
            Err(e) => return unusable(&e),
        };
        let text = format!("# Made of {}.\n\n{}", self.file.display(), import.toml);
        match &self.to {
            None => say(&text),
            Some(path) => {
                if let Err(e) = write_new(path, &text) {
                    complain(&format_args!("{}: {e}", path.display()));
                    return ExitCode::FAILURE;
                }
            }
        }
        import.warnings.iter().for_each(|warning| complain(warning));
        match import.lacking {
            None => ExitCode::SUCCESS,
            Some(e) => {
                complain(&format_args!("what was made is not usable yet: {e}"));
                ExitCode::from(WRONG_CONFIGURATION)
            }
        }
    }
}

/// It holds passwords, so it is nobody else's to read; and it replaces nothing.
fn write_new(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
