//! The verbs of the command line.

mod check;
mod credentials;
#[cfg(feature = "lab")]
mod lab;
mod logging;
mod paint;
mod policy;
mod preflight;
mod serve;
mod setup;
mod signals;

use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

/// The file could be read but not used (sysexits.h EX_CONFIG).
const WRONG_CONFIGURATION: u8 = 78;

/// OpenStack Magnum in one process: Kubernetes clusters built by Heat on the tenant's own cloud.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, max_term_width = 100)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Serve a real OpenStack.
    Serve(serve::Serve),
    /// Parse a configuration and everything it names; open nothing.
    Check(check::Check),
    Setup(Box<setup::Setup>),
    Preflight(Box<preflight::Preflight>),
    /// Show the built-in policy.
    Policy(policy::Policy),
    /// Run a small simulated cloud with magnumd in it, and build a cluster there.
    #[cfg(feature = "lab")]
    Lab(lab::Lab),
}

impl Arguments {
    pub fn run(self) -> ExitCode {
        match self.verb {
            Verb::Serve(serve) => serve.run(),
            Verb::Check(check) => check.run(),
            Verb::Setup(setup) => setup.run(),
            Verb::Preflight(preflight) => preflight.run(),
            Verb::Policy(policy) => policy.run(),
            #[cfg(feature = "lab")]
            Verb::Lab(lab) => lab.run(),
        }
    }
}

/// For people, or for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

/// The last words of a verb that failed.
fn complain(error: &dyn std::fmt::Display) {
    eprintln!("magnumd: {error}");
}
