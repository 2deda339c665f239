//! `magnumd policy`: what operators begin with who want other rules.

use std::process::ExitCode;

use clap::{Args, Subcommand};

#[derive(Debug, Args)]
pub struct Policy {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Print every built-in rule, commented out, as a policy.yaml to edit.
    Sample,
}

impl Policy {
    pub fn run(self) -> ExitCode {
        match self.verb {
            Verb::Sample => super::say(&magnumd::api::policy_sample()),
        }
        ExitCode::SUCCESS
    }
}
