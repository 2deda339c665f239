//! `magnumd check`: is this configuration usable?

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::source::Source;
use super::{Output, WRONG_CONFIGURATION};

#[derive(Debug, Args)]
pub struct Check {
    #[command(flatten)]
    source: Source,
    /// How to say it.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

impl Check {
    pub fn run(self) -> ExitCode {
        let verdict = self.source.layers().load().map_err(|e| e.to_string());
        // What lies in the drivers' folder is named by the configuration too.
        let verdict = verdict.and_then(|loaded| match magnumd::daemon::drivers(&loaded.config) {
            Ok(_) => Ok(loaded),
            Err(e) => Err(format!("{}: {e}", self.source.path().display())),
        });
        let path = self.source.path();
        let warnings = verdict.as_ref().map_or(&[][..], |loaded| &loaded.warnings);
        match (&verdict, self.output) {
            (Ok(_), Output::Text) => {
                warnings.iter().for_each(|warning| super::complain(warning));
                say!("{}: usable", path.display());
            }
            (Err(e), Output::Text) => super::complain(e),
            (verdict, Output::Json) => {
                let error = verdict.as_ref().err().map(ToString::to_string);
                let report = json!({
                    "file": path.display().to_string(),
                    "usable": error.is_none(),
                    "error": error,
                    "warnings": warnings,
                });
                say!("{report}");
            }
        }
        match verdict {
            Ok(_) => ExitCode::SUCCESS,
            Err(_) => ExitCode::from(WRONG_CONFIGURATION),
        }
    }
}
