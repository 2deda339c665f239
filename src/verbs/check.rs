//! `magnumd check`: is this configuration usable?

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use magnumd::config::Config;
use serde_json::json;

use super::{Output, WRONG_CONFIGURATION};

#[derive(Debug, Args)]
pub struct Check {
    /// The configuration.
    #[arg(long, value_name = "FILE", default_value = "/etc/magnumd/magnumd.toml")]
    config: PathBuf,
    /// How to say it.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

impl Check {
    #[expect(clippy::print_stdout, reason = "the verdict is this verb's output")]
    pub fn run(self) -> ExitCode {
        let verdict = Config::load(&self.config);
        let path = self.config.display();
        match (&verdict, self.output) {
            (Ok(_), Output::Text) => println!("{path}: usable"),
            (Err(e), Output::Text) => super::complain(e),
            (verdict, Output::Json) => {
                let error = verdict.as_ref().err().map(ToString::to_string);
                let report =
                    json!({"file": path.to_string(), "usable": error.is_none(), "error": error});
                println!("{report}");
            }
        }
        match verdict {
            Ok(_) => ExitCode::SUCCESS,
            Err(_) => ExitCode::from(WRONG_CONFIGURATION),
        }
    }
}
